"""The program that averages weights, in a Python that has torch: TARGET FOLDER FOLDER [FOLDER ...].

It needs nothing of nemo_cot, so that a training container's interpreter can run it. For each file of
the first folder it writes one into TARGET, and prints its name. :mod:`nemo_cot.models.average` starts it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_means(target: Path, folders: Sequence[Path]) -> None:
    """Each tensor's mean in float32, rounded once, to its type in the first folder."""
    from safetensors.torch import save_file

    places = [_places(folder) for folder in folders]
    for file in sorted(set(places[0].values())):
        names = [name for name, place in places[0].items() if place == file]
        means = {name: _mean([index[name] for index in places], name) for name in names}
        save_file(means, target / file.name, {"format": "pt"})
        print(file.name, flush=True)


def _places(folder: Path) -> dict[str, Path]:
    """The file of each tensor."""
    from safetensors import safe_open

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            found |= dict.fromkeys(opened.keys(), file)
    return found


def _mean(files: Sequence[Path], name: str) -> Any:
    """One tensor's mean, shape and type as in the first file."""
    from safetensors import safe_open

    total, dtype = None, None
    for file in files:
        with safe_open(file, framework="pt") as opened:
            tensor = opened.get_tensor(name)
        dtype = dtype or tensor.dtype
        total = tensor.float() if total is None else total.add_(tensor)
    return total.div_(len(files)).to(dtype)


if __name__ == "__main__":
    write_means(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
