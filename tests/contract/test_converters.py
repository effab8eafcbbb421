"""What NeMo-Skills' converters import, in the packages that the image installs (docs/container.md)."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ALIAS = Path(__file__).parents[2] / "docker/alias"
SCRIPT = """\
from lightning.pytorch.strategies import DDPStrategy
from pytorch_lightning.trainer.trainer import Trainer
print(type(Trainer(accelerator="cpu", devices=1, strategy=DDPStrategy())).__module__)
"""


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("nemo.collections.nlp.models.language_modeling.megatron_gpt_model", ["MegatronGPTModel"]),
        (
            "nemo.collections.nlp.parts.nlp_overrides",
            ["GradScaler", "MegatronHalfPrecisionPlugin", "NLPDDPStrategy", "NLPSaveRestoreConnector",
             "PipelineMixedPrecisionPlugin"],
        ),
        ("nemo.collections.nlp.parts.utils_funcs", ["load_state_dict_helper", "torch_dtype_from_precision"]),
        ("nemo.utils", ["logging"]),
    ],
)  # fmt: skip
def test_nemo_has_what_the_converters_import(module, names):
    assert all(hasattr(importlib.import_module(module), name) for name in names)


def test_the_former_name_of_lightning_takes_a_strategy_of_the_present_one():
    """With the package of the former name it raises: You selected an invalid strategy name."""
    environment = {**os.environ, "PYTHONPATH": str(ALIAS)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.splitlines()[-1:] == ["lightning.pytorch.trainer.trainer"], done.stderr[-2000:]
