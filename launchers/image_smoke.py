"""Does this image hold what it promises? `python -m nemo_cot.launchers.image_smoke`, inside of it.

Reads the promises that the build wrote (promised/*.txt in the image's folder), checks each in its Python,
runs the nemo-cot command, prints one line per check, and exits with 1 if one failed. A file of promises
holds one per line:

    python /usr/bin/python3                 the Python of these packages; the first line
    torch==2.4.0a0 import torch             a package, optionally its version and a module to import
    file /opt/nemo-rl/examples/run_sft.py   a file that must exist
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from nemo_cot.errors import UserError, one_line
from nemo_cot.guard import guarded
from nemo_cot.image import Identity, image_home, image_identity, write_identity
from nemo_cot.provenance import hardware

_IMPORT_SECONDS = 600
"""NeMo takes up to a minute from a cold network file system; longer is a hang."""
_COMMAND_SECONDS = 120
_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:==(\S+))?(?: import ([\w.]+))?")

_PROBE = """\
import importlib, importlib.metadata, json, sys
name, module = sys.argv[1:]
found = {"version": None, "error": None}
try:
    found["version"] = importlib.metadata.version(name)
    if module:
        importlib.import_module(module)
except BaseException as error:
    found["error"] = f"{type(error).__name__}: {error}"
sys.stdout.write("\\n" + json.dumps(found))
"""


class Check(NamedTuple):
    """``problem`` is empty if the check passed."""

    name: str
    found: str
    problem: str


class Promise(NamedTuple):
    """A package in one Python; ``version`` and ``module`` may be empty."""

    python: str
    package: str
    version: str
    module: str


def main() -> None:
    """The command: the checks, or `identify KEY=VALUE...`, which the build calls."""
    parser = argparse.ArgumentParser(prog="python -m nemo_cot.launchers.image_smoke")
    parser.add_argument("--installed-only", action="store_true", help="import nothing that may need a GPU")
    parser.add_argument("--gpu", action="store_true", help="fail unless there is a GPU")
    parser.add_argument("identify", nargs="*", metavar="identify KEY=VALUE", help="write image.json")
    arguments = parser.parse_args()
    if arguments.identify:
        sys.exit(guarded(lambda: identify(arguments.identify)))
    sys.exit(guarded(lambda: smoke(imports=not arguments.installed_only, gpu=arguments.gpu)))


def identify(words: Sequence[str]) -> int:
    """Write image.json from ``identify KEY=VALUE ...``. Raises UserError for other words or keys."""
    values = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    try:
        if words[0] != "identify" or len(values) != len(words) - 1:
            raise msgspec.ValidationError(f"not identify KEY=VALUE: {' '.join(words)}")
        print(write_identity(msgspec.convert(values, Identity)))
    except msgspec.ValidationError as error:
        raise UserError(str(error), where="image_smoke", fix="call it as in docker/finish.sh") from None
    return 0


def smoke(*, imports: bool, gpu: bool) -> int:
    """Run the checks and print them. Returns 1 if one failed. Raises UserError outside an image."""
    identity = image_identity()
    if identity is None:
        raise UserError("not in an image", where=str(image_home()), fix="run it inside an image")
    print(one_line(f"image {identity.target} {identity.version}, revision {identity.revision}"))
    failed = 0
    for check in _checks(imports, gpu):
        failed += bool(check.problem)
        print(one_line(f"{'FAILED' if check.problem else 'ok':6} {check.name} {check.found} {check.problem}"))
    print(f"{failed} failed" if failed else "all checks passed", flush=True)
    return 1 if failed else 0


def _checks(imports: bool, gpu: bool) -> Iterator[Check]:
    yield from (_locked(line) for line in _pins(image_home() / "requirements/core.lock.txt"))
    for path in sorted((image_home() / "promised").glob("*.txt")):
        yield from _promised(path, imports)
    command = str(Path(sys.executable).with_name("nemo-cot"))
    for arguments in (["--help"], ["show"], ["show", "train=nemo_aligner"], ["show", "train=nemo_rl"]):
        yield _runs([command, *arguments])
    yield _gpu(required=gpu)


def _pins(lock: Path) -> list[str]:
    """NAME==VERSION of the lock's lines that apply to this Python and system."""
    from packaging.requirements import Requirement

    lines = [line.rstrip("\\ ") for line in lock.read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith((" ", "#"))]
    return [f"{r.name}{r.specifier}" for r in found if r.marker is None or r.marker.evaluate()]


def _locked(pin: str) -> Check:
    name, _, version = pin.partition("==")
    return _looked_for(Promise(sys.executable, name, version, ""))


def _promised(path: Path, imports: bool) -> Iterator[Check]:
    python = ""
    for line in filter(None, map(str.strip, path.read_text().splitlines())):
        kind, _, rest = line.partition(" ")
        if kind == "python":
            python = rest
        elif kind == "file":
            yield Check(rest, "", "" if Path(rest).is_file() else "does not exist")
        elif (pin := _PIN.fullmatch(line)) and python:
            name, version, module = (group or "" for group in pin.groups())
            yield _looked_for(Promise(python, name, version, module if imports else ""))
        else:
            yield Check(str(path), "", f"not a promise: {line!r}")


def _looked_for(promise: Promise) -> Check:
    """Check in the promise's own Python, in a separate process: an import may crash, hang or print."""
    name = f"{promise.package} {promise.module}".strip()
    if promise.python == sys.executable and not promise.module:
        return _installed_here(promise)
    command = [promise.python, "-c", _PROBE, promise.package, promise.module]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_SECONDS)
        found = msgspec.json.decode(done.stdout.rpartition("\n")[2].encode())
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "", str(error))
    except msgspec.DecodeError:
        return Check(name, "", f"{promise.python} ended with {done.returncode}: {done.stderr[-500:]}")
    return Check(name, found["version"] or "", found["error"] or _other_version(promise, found["version"]))


def _installed_here(promise: Promise) -> Check:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(promise.package)
    except PackageNotFoundError:
        return Check(promise.package, "", "is not installed")
    return Check(promise.package, found, _other_version(promise, found))


def _other_version(promise: Promise, found: str) -> str:
    return f"is not {promise.version}" if promise.version and found != promise.version else ""


def _runs(command: Sequence[str]) -> Check:
    name = " ".join([Path(command[0]).name, *command[1:]])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "", str(error))
    return Check(name, "", f"exit code {done.returncode}: {done.stderr[-500:]}" if done.returncode else "")


def _gpu(*, required: bool) -> Check:
    """The GPUs that nvidia-smi lists; NVIDIA's container runtime mounts it."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
        names = done.stdout.splitlines() if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        names = []
    where = f"none, on {hardware()['cores']} cores"
    return Check(
        "GPUs", f"{len(names)} x {names[0]}" if names else where, "none" if required and not names else ""
    )


if __name__ == "__main__":
    main()
