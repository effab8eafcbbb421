"""The wheel: one package with all that is run, which works from any folder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT, SECONDS, tiny_experiment, write_lines

SOURCES = ("nemo_cot", "conf", "recipes", "launchers", "pyproject.toml", "README.md", "LICENSE")


def run(*command: object, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Without what the environment of the tests names: this checkout on PYTHONPATH, for one."""
    plain = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env={**plain, **more}, capture_output=True, text=True, timeout=SECONDS
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy: setuptools leaves a folder build/, and takes what it finds in one."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    built = run(
        sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", "dist", cwd=source
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (found,) = (source / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its dependencies are those of the environment of the tests."""
    home = tmp_path_factory.mktemp("installed")
    assert run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=home).returncode == 0
    python = home / "venv/bin/python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--no-compile", "-q", wheel, cwd=home)
    assert done.returncode == 0, done.stderr
    # A .pth of a .pth is not read: an editable nemo-cot over there stays out.
    site = next((home / "venv/lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_it_holds_one_package_with_everything_in_it(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    inside = {name for name in names if name.startswith("nemo_cot/")}
    assert {name.partition("/")[0].partition("-")[0] for name in names - inside} == {"nemo_cot"}
    assert all(".dist-info/" in name for name in names - inside)
    here = {
        f"nemo_cot/{path.relative_to(folder.parent if folder.name != 'nemo_cot' else folder).as_posix()}"
        for folder in (ROOT / name for name in SOURCES[:4])
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and (path.suffix != ".md" or path.parent.name == "vendor") and not path.is_symlink()
    }
    assert inside == here and {"nemo_cot/conf/config.yaml", "nemo_cot/recipes/train.py", "nemo_cot/launchers/cli.py"} < here


def test_show_plan_and_grade_work_in_another_folder(installed, tiny_model, tmp_path):
    command = installed / "venv/bin/nemo-cot"
    where = run(installed / "venv/bin/python", "-c", "import nemo_cot; print(nemo_cot.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(f"{installed}/venv/lib/"), where.stderr
    shown = run(command, "show", "experiment=quickstart", cwd=tmp_path)
    assert shown.returncode == 0 and "name: quickstart\n" in shown.stdout, shown.stderr
    planned = run(command, "plan", *tiny_experiment(tiny_model, tmp_path / "runs"), cwd=tmp_path)
    assert planned.returncode == 0 and re.search(r"evaluate/scores\W+run\b", planned.stdout), planned.stdout + planned.stderr
    rows = [{"problem": "1 + 1 =", "expected_answer": "2", "generation": f"It is \\boxed{{{n}}}."} for n in (2, 3)]
    graded = run(command, "grade", write_lines(tmp_path / "in.jsonl", rows), "out.jsonl", "grade.workers=1", cwd=tmp_path)
    assert graded.returncode == 0, graded.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in verdicts] == ["right", "wrong"]


def test_the_snapshot_of_a_submission_runs_a_stage(installed, tiny_model, tmp_path):
    """The package as it is installed: there is no checkout to copy."""
    overrides = [*tiny_experiment(tiny_model, tmp_path / "runs"), "cluster=slurm_minimal"]
    done = run(installed / "venv/bin/nemo-cot", "submit", "--dry-run", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (code,) = (tmp_path / "runs/tiny/code").iterdir()
    assert not list(code.rglob("__pycache__"))
    recipe = code / "nemo_cot/recipes/problems.py"
    stage = run(installed / "venv/bin/python", recipe, *overrides, cwd=tmp_path, PYTHONPATH=str(code))  # as a job does
    assert stage.returncode == 0, stage.stderr
    manifest = json.loads((tmp_path / "runs/tiny/problems/manifest.json").read_text())
    assert manifest["code"]["snapshot"].startswith(code.name) and manifest["outputs"]["train.jsonl"]["rows"] == 6


def test_the_extra_for_nemo_is_what_the_image_holds():
    """Versions that belong together stand in the Dockerfile, which is tested against the locks."""
    section = re.search(r"^nemo = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    pins = set(re.findall(r'^ +"([^"]+)"', section.group(1), re.M))
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M))
    assert pins == {
        f"nemo-aligner=={arguments['NEMO_ALIGNER_VERSION']}",
        f"nemo_toolkit=={arguments['NEMO_VERSION']}",
        f"megatron-core=={arguments['MEGATRON_CORE_VERSION']}",
        "transformer-engine @ git+https://github.com/NVIDIA/TransformerEngine.git@" + arguments["TRANSFORMER_ENGINE_REVISION"],
    }
