"""pyxis' options and paths, by a stub of the plugin; apptainer's command, rendered. No container runtime is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_cot.config.cluster import ContainerConfig
from nemo_cot.errors import UserError
from nemo_cot.launchers.slurm.container import container_prefix, srun_options
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import Chain, skip_or_fail, start_or_skip
from tests.support import one_error, tiny_experiment

STUB = Path(__file__).with_name("pyxis_stub.c")
PROFILE = """\
defaults: [slurm_minimal, _self_]
container: {{runtime: pyxis, image: '{image}', mounts: [{mounts}], pyxis_arguments: [--no-container-mount-home]}}
python: {python}
"""
ONE_STAGE = "launcher.stages=[problems]"


@pytest.fixture(scope="module")
def pyxis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own: the plugin is read when the daemons start."""
    root = tmp_path_factory.mktemp("pyxis")
    waiting = start_or_skip(root / "cluster", spank=root / "pyxis_stub.so")
    if shutil.which("gcc") is None or not Path("/usr/include/slurm/spank.h").exists():
        skip_or_fail("the stub of pyxis is built with gcc and the headers of libslurm-dev")
    build = [
        "gcc",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(root / "pyxis_stub.so"),
        str(STUB),
    ]
    subprocess.run(build, check=True, timeout=300)
    with waiting as started:
        yield started


@pytest.fixture
def contained(pyxis_cluster: Cluster, tiny_model: Path, tmp_path: Path) -> Iterator[Chain]:
    overrides = [*tiny_experiment(tiny_model, Path("runs")), ONE_STAGE]
    chain = Chain(pyxis_cluster, overrides, tmp_path / "work" / "runs" / "tiny", tmp_path / "work")
    chain.cwd.mkdir()
    yield chain
    if chain.run.is_dir():
        chain.call("cancel")


def write_profile(folder: Path, **values: str) -> str:
    """A profile outside of the repository; returns the folder for NEMO_COT_CONFIG_DIR."""
    (folder / "cluster").mkdir(parents=True)
    (folder / "cluster" / "mine.yaml").write_text(PROFILE.format(**values))
    return str(folder)


def test_pyxis_stub_gets_the_options_of_the_profile(contained: Chain, tmp_path, monkeypatch):
    interpreter = tmp_path / "show.sh"
    interpreter.write_text(
        "#!/bin/sh\nenv | grep -E '^PYXIS_STUB_|^PYTHONNOUSERSITE|^NVIDIA_|^NEMO_COT_CHAIN' | sort\n"
    )
    interpreter.chmod(0o755)
    folder = write_profile(
        tmp_path / "conf",
        image="registry.example#team/image:1.0",
        mounts="/data:/data:ro",
        python=str(interpreter),
    )
    monkeypatch.setenv("NEMO_COT_CONFIG_DIR", folder)
    contained.call("submit", "cluster=mine")
    assert contained.wait_end() == {"problems": "COMPLETED"}, contained.told()
    lines = [line.split(" ", 1)[1] for line in contained.log("problems").splitlines()]
    said = [line for line in lines if "=" in line]
    assert said == [
        "NEMO_COT_CHAIN_JOB=problems",
        "NVIDIA_VISIBLE_DEVICES=void",
        "PYTHONNOUSERSITE=1",
        "PYXIS_STUB_IMAGE=registry.example#team/image:1.0",
        f"PYXIS_STUB_MOUNTS={contained.cwd}:{contained.cwd},/data:/data:ro",
        "PYXIS_STUB_NO_HOME=1",
        f"PYXIS_STUB_WORKDIR={contained.cwd}",
    ]


def test_a_stage_runs_in_an_image_directory_by_the_chroot_of_the_pyxis_stub(
    contained: Chain, tiny_model: Path, tmp_path, monkeypatch
):
    """The image has no Python of its own: it borrows the machine's folders, and a file that only it has."""
    image = tmp_path / "image"
    (image / "opt").mkdir(parents=True)
    (image / "opt" / "only-here").write_text("yes\n")
    (image / "opt" / "python").write_text(
        f'#!/bin/sh\ncat /opt/only-here && ls / && exec "{sys.executable}" "$@"\n'
    )
    (image / "opt" / "python").chmod(0o755)
    (image / "tmp").mkdir()
    folders = [f for f in ("/usr", "/lib", "/lib64", "/bin", "/etc") if Path(f).exists()]
    folders += [str(Path(p).resolve()) for p in {sys.prefix, sys.base_prefix} if not p.startswith("/usr")]
    folders.append(str(tiny_model))
    mounts = ", ".join(f"'{folder}:{folder}'" for folder in folders)
    conf = write_profile(tmp_path / "conf", image=str(image), mounts=mounts, python="/opt/python")
    monkeypatch.setenv("NEMO_COT_CONFIG_DIR", conf)
    contained.call("submit", "cluster=mine")
    states = contained.wait_end()
    assert states == {"problems": "COMPLETED"}, contained.log("problems")
    assert " yes\n" in contained.log("problems") and " only-here" not in contained.log("problems")
    assert " home\n" not in contained.log("problems"), "the root is the image's"
    assert (contained.run / "problems" / "train.jsonl").exists(), (
        "and what it wrote is outside, where it belongs"
    )


def test_pyxis_options_without_pyxis_are_refused_in_sruns_words(cluster, tiny_model, tmp_path, monkeypatch):
    chain = Chain(
        cluster, [*tiny_experiment(tiny_model, Path("runs")), ONE_STAGE], tmp_path / "runs" / "tiny", tmp_path
    )
    monkeypatch.setenv(
        "NEMO_COT_CONFIG_DIR", write_profile(tmp_path / "c", image="x", mounts="", python="python")
    )
    chain.call("submit", "cluster=mine")
    assert chain.wait_end() == {"problems": "FAILED"}, chain.told()
    assert "unrecognized option '--container-image=x'" in chain.log("problems")


def test_a_container_needs_an_image(cluster, tiny_model, tmp_path):
    chain = Chain(cluster, tiny_experiment(tiny_model, Path("runs")), tmp_path / "runs" / "tiny", tmp_path)
    mounts = f"cluster.container.mounts=['{tiny_model}:{tiny_model}:ro']"
    refused = chain.call(
        "submit", "cluster=slurm_minimal", "cluster.container.runtime=pyxis", mounts, check=False
    )
    one_error(refused, "cluster.container.image", "no image")


def container_of(runtime: str, **values) -> ContainerConfig:
    given = {"mounts": [], "pyxis_arguments": [], "apptainer_arguments": []} | values
    return ContainerConfig(runtime, "image", **given)


def test_apptainer_is_a_command_before_the_recipes_own():
    lists = {"mounts": ["/data:/data:ro"], "pyxis_arguments": ["--x"], "apptainer_arguments": ["--no-home"]}
    container = container_of("apptainer", **lists)
    folders = Path("/work dir"), Path("/work dir/runs/x")
    prefix = container_prefix(container, "/images/a b.sif", folders)
    assert prefix == [
        "apptainer", "exec", "--nv", "--env", "PYTHONNOUSERSITE=1", "--bind", "/work dir:/work dir",
        "--bind", "/data:/data:ro", "--pwd", "/work dir", "--no-home", "/images/a b.sif",
    ]  # fmt: skip
    without = container_prefix(container, "/images/a b.sif", folders, gpus=False)
    assert without == [part for part in prefix if part != "--nv"]


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer"])
@pytest.mark.parametrize("key, argument, fix", [
    ("apptainer_arguments", "--no-container-mount-home", "cluster.container.pyxis_arguments"),
    ("apptainer_arguments", "--container-writable", "cluster.container.pyxis_arguments"),
    ("apptainer_arguments", "--cleanenv", "variables tell a stage"),
    ("apptainer_arguments", "-e", "variables tell a stage"),
    ("apptainer_arguments", "--containall", "variables tell a stage"),
    ("pyxis_arguments", "--container-image=x", "cluster.container.image"),
    ("pyxis_arguments", "--container-mounts=/a:/a", "cluster.container.mounts"),
    ("pyxis_arguments", "--export=NONE", "all variables"),
])  # fmt: skip
def test_arguments_that_cannot_be_right_are_refused(runtime, key, argument, fix):
    with pytest.raises(UserError) as caught:
        container_of(runtime, **{key: [argument]})
    assert caught.value.where == f"cluster.container.{key}" and fix in caught.value.fix
    assert argument.partition("=")[0] in caught.value.what


@pytest.mark.parametrize("argument", ["--contain", "--container", "--env", "--no-home"])
def test_other_arguments_of_apptainer_are_taken(argument):
    assert container_of("apptainer", apptainer_arguments=[argument]).apptainer_arguments == [argument]


@pytest.mark.parametrize("path", ["/a,b", "/a:b", "/a\nb"])
def test_paths_that_a_mount_cannot_name_are_refused(path):
    with pytest.raises(UserError, match="cannot name a path"):
        container_prefix(container_of("pyxis"), "image", (Path(path),))


@pytest.mark.parametrize("mount", ["/a", "a:/b", "/a,/b:/c", "/a:/b:ro:x", "/a:b", "/a:/b\n:ro"])
def test_mounts_are_checked(mount):
    with pytest.raises(UserError, match="SOURCE:TARGET"):
        container_of("pyxis", mounts=[mount])


def test_apptainer_knows_fewer_flags_of_a_mount():
    for runtime in ("pyxis", "apptainer"):
        assert container_of(runtime, mounts=["/a:/b:ro", "/c:/d:rw", "/e:/f"])
    assert container_of("pyxis", mounts=["/a:/b:ro+rprivate"])
    with pytest.raises(UserError, match="flags of pyxis"):
        container_of("apptainer", mounts=["/a:/b:ro+rprivate"])


def test_the_variables_of_every_container_are_srun_s_own_option():
    options = srun_options(
        container_of("pyxis", pyxis_arguments=["--container-writable"]), "i", (Path("/w"),)
    )
    assert options[-2:] == ["--export=ALL,PYTHONNOUSERSITE=1", "--container-writable"]
