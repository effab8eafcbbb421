"""A backend of one's own: a package beside the others and its file in conf/train, found by every part by its name."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from nemo_cot.config import TrainConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.training.backend import backend_of, names, schemas
from tests.support import ROOT, environment, nemo_cot, one_error, tiny_experiment

CONFIG = '''
from dataclasses import dataclass

from nemo_cot.config import TrainConfig
from nemo_cot.config.checks import at_least


@dataclass
class NudgeTrain(TrainConfig):
    """Adds ``nudge`` to every weight."""

    nudge: float

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("train.nudge", self.nudge, 0.0)


SCHEMA = NudgeTrain
'''
BACKEND = '''
import shutil

from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.rule import rule
from nemo_cot.models.format import base_model
from nemo_cot.stages import Output, Stage
from nemo_cot.training.backend import Backend


@rule("train")
def nudge_is_small(cfg, train, cost):
    """The nudge is small."""
    if train.nudge > 1:
        yield "error", f"a nudge of {train.nudge}", "set train.nudge=0.5"


class Nudge(Backend):
    rules = (nudge_is_small,)
    packages = {"safetensors": "safetensors"}

    def train_stage(self, cfg):
        def work(folder, inputs):
            from safetensors.torch import load_file, save_file

            shutil.copytree(inputs["base"], folder / "model")
            weights = load_file(folder / "model" / "model.safetensors")
            save_file({name: w + self.train.nudge for name, w in weights.items()},
                      folder / "model" / "model.safetensors", metadata={"format": "pt"})

        inputs = {"base": base_model(cfg.model), "sequences": Output("pack", "sequences.jsonl")}
        return Stage("train", inputs, {"train": fingerprinted(self.train)}, work, ("model",), resources="train")


BACKEND = Nudge
'''
ON_THE_PATH = """import nemo_cot.training
nemo_cot.training.__path__.append({folder!r})
"""


@pytest.fixture(scope="module")
def nudge(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has the backend; nothing of this repository is changed."""
    place = tmp_path_factory.mktemp("own")
    package = place / "training" / "nudge"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "config.py").write_text(CONFIG)
    (package / "backend.py").write_text(BACKEND)
    (place / "sitecustomize.py").write_text(ON_THE_PATH.format(folder=str(package.parent)))
    keys = (ROOT / "conf/train/local.yaml").read_text().replace("local_schema", "nudge_schema")
    own = [line for line in keys.splitlines() if line.partition(":")[0] not in LOCAL_KEYS]
    (place / "conf" / "train").mkdir(parents=True)
    (place / "conf" / "train" / "nudge.yaml").write_text("\n".join([*own, "backend: nudge", "nudge: 0.25", ""]))
    path = os.pathsep.join([str(place), environment()["PYTHONPATH"]])
    return {"PYTHONPATH": path, "NEMO_COT_CONFIG_DIR": str(place / "conf")}


LOCAL_KEYS = ("backend", "  - lora", "keep_checkpoints", "export_dtype", "device", "activation_checkpointing")


def test_a_backend_of_one_s_own_is_a_package_and_a_file_and_trains_to_the_end(nudge, tiny_model, tmp_path):
    experiment = [*tiny_experiment(tiny_model, tmp_path), "train=nudge"]
    planned = nemo_cot("plan", *experiment, "--all", COLUMNS="300", **nudge)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "nudge_is_small" in planned.stdout and "literal_cost" not in planned.stdout
    done = nemo_cot("run", *experiment, **nudge)
    assert done.returncode == 0, done.stderr
    base = load_file(tiny_model / "model.safetensors")
    trained = load_file(tmp_path / "tiny" / "train" / "model" / "model.safetensors")
    assert all(((trained[name] - weight) - 0.25).abs().max() < 1e-6 for name, weight in base.items())
    scores = json.loads((tmp_path / "tiny" / "evaluate" / "scores" / "metrics.json").read_text())
    assert "trained" in str(scores)
    manifest = json.loads((tmp_path / "tiny" / "train" / "manifest.json").read_text())
    assert manifest["config"]["train"]["nudge"] == 0.25 and manifest["config"]["train"]["backend"] == "nudge"


def test_its_keys_and_rules_are_checked_as_any_other_s(nudge, tiny_model, tmp_path):
    experiment = [*tiny_experiment(tiny_model, tmp_path), "train=nudge"]
    one_error(nemo_cot("run", *experiment, "train.nudge=2", **nudge), "nudge_is_small", "a nudge of 2", "nudge=0.5")
    one_error(nemo_cot("show", *experiment, "train.nudge=-1", **nudge), "train.nudge")
    one_error(nemo_cot("show", *experiment, "train.nuge=1", **nudge), "train.nuge", "train.nudge")
    one_error(nemo_cot("show", "train.nudge=1", **nudge), "train=nudge")
    one_error(nemo_cot("show", "train=nudge"), "nudge", "nemo_aligner")
    assert not list(tmp_path.iterdir())


def test_backends_are_the_packages_that_have_one():
    assert names() == ["local", "nemo_aligner", "nemo_rl"], "nemo is what two of them share"
    for name, schema in schemas().items():
        assert issubclass(schema, TrainConfig) and (ROOT / "conf/train" / f"{name}.yaml").is_file()
        assert type(backend_of(load_config([f"train={name}"]).train)).__module__ == f"nemo_cot.training.{name}.backend"


def test_the_keys_of_one_backend_do_not_train_with_another():
    with pytest.raises(UserError, match=r"train\.backend"):
        load_config(["train.backend=nemo_rl"])


def test_nothing_outside_of_the_families_asks_what_kind_a_config_is():
    """Backends, engines, teachers, sources of problems and clusters are asked, not told apart."""
    kinds = tuple(kind + end for kind in ("Train", "Engine", "Teacher", "Problems", "Cluster") for end in ("", "Config"))
    for folder in ("nemo_cot", "recipes", "launchers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                    names = [getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node.args[1])]
                    assert not [name for name in names if name.endswith(kinds)], path.relative_to(ROOT)


def test_the_schemas_are_listed_without_heavy_imports():
    code = (
        "import sys; from nemo_cot.training.backend import schemas; schemas(); "
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
