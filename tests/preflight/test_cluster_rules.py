"""Preflight of a chain that is submitted: images, interpreters, GPUs. Its mounts: tests/slurm/test_paper.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.preflight import Finding, preflight
from nemo_cot.preflight.estimate import estimate
from nemo_cot.preflight.image_names import examine_image

ROOT = Path(__file__).resolve().parents[2]
CORE = "/opt/nemo-cot/venv/bin/python"
QUICKSTART = ["experiment=quickstart", "cluster=slurm_8xh100", "cluster.container.image=/x.sqsh"]
NO_CONTAINER = ["cluster.container.runtime=none", "cluster.python=null"]
PAPER = [
    "experiment=paper_main", "problems.train_path=/none", "problems.heldout_path=/none", "model.path=/none",
    "teacher.path=/none", "cluster=slurm_8xh100", "cluster.container.image=/x.sqsh",
    "cluster.resources.generate.image=/v.sqsh", "cluster.resources.evaluate.image=/v.sqsh",
]  # fmt: skip


def found(rule: str, *overrides: str) -> list[Finding]:
    """What ``rule`` has to say, but that all is well."""
    cfg = load_config(overrides)
    findings = preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds, elsewhere=True)
    assert any(f.rule == rule for f in findings)
    return [f for f in findings if f.rule == rule and f.level != "ok"]


def test_a_stage_that_loads_a_model_needs_a_python_with_torch():
    (error,) = found("cluster_torch", *QUICKSTART)
    assert error.level == "error" and error.what.startswith("problems, convert, train, evaluate: ")
    keys = [f"cluster.resources.{kind}.python" for kind in ("cpu", "train", "evaluate")]
    assert f"set {', '.join(keys)} to" in error.fix
    (error,) = found("cluster_torch", *QUICKSTART, *(f"{key}=/own/python" for key in keys[:2]))
    assert error.what.startswith("evaluate: ") and f"set {keys[2]} to" in error.fix
    assert not found("cluster_torch", *QUICKSTART, *(f"{key}=/own/python" for key in keys))
    assert not found("cluster_torch", *QUICKSTART, "cluster.python=/own/python")
    assert not found("cluster_torch", *QUICKSTART, *NO_CONTAINER)
    assert not found("cluster_torch", *QUICKSTART, "launcher.stages=[grade,curate,pack,report]")


def test_the_embedded_teacher_and_evaluation_load_a_model():
    """The paper's chain has its models in processes of their own."""
    assert not found("cluster_torch", *PAPER)
    taught = ["experiment=quickstart_self", *QUICKSTART[1:], "launcher.stages=[generate,grade]"]
    (error,) = found("cluster_torch", *taught)
    assert error.what.startswith("generate: ") and "cluster.resources.generate.python" in error.fix
    assert not found("cluster_torch", *taught, "teacher.engine=nemo_skills")
    (error,) = found("cluster_torch", *QUICKSTART, "launcher.stages=[evaluate]")
    assert error.what.startswith("evaluate: ")
    assert not found("cluster_torch", *QUICKSTART, "launcher.stages=[evaluate]", "evaluate.engine=openai")


def test_the_python_without_torch_is_the_one_of_the_images():
    assert f"{CORE.removesuffix('/bin/python')}\n" in (ROOT / "Dockerfile").read_text()
    assert load_config(QUICKSTART).cluster.python == CORE


def test_without_a_container_interpreters_lie_on_the_nodes():
    outside = [*PAPER, "cluster.container.runtime=none"]
    errors = found("cluster_programs", *outside)
    keys = ["cluster.python", "teacher.engine.python", "teacher.engine.server.python",
            "evaluate.engine.python", "evaluate.engine.server.python"]  # fmt: skip
    assert [e.what.partition(":")[0] for e in errors] == keys and {e.level for e in errors} == {"error"}
    assert "null" in errors[0].fix and "null" not in errors[1].fix
    here = [f"{key}=python3" for key in keys]  # found on the nodes' PATH
    assert not found("cluster_programs", *outside, *here)
    (error,) = found("cluster_programs", *outside, *here, "train.python=/no/such/python")
    assert error.what.startswith("train.python: ")
    assert not found("cluster_programs", *PAPER), "in the image"


@pytest.mark.parametrize("runtime, image, level, fix", [
    ("pyxis", "x.sqsh", "error", "set KEY=./x.sqsh"),
    ("pyxis", "images/x.squashfs", "error", "set KEY=./images/x.squashfs"),
    ("pyxis", "x.sif", "error", "enroot import"),
    ("pyxis", "/images/x.sif", "error", "enroot import"),
    ("pyxis", "~/x.sqsh", "error", "absolute path"),
    ("pyxis", "./absent.sqsh", "error", "a path that is there"),
    ("pyxis", "../x.sqsh", "error", "a path that is there"),
    ("pyxis", "/absent/x.sqsh", "warning", "correct KEY"),
    ("pyxis", "./here.sqsh", None, ""),
    ("pyxis", "{cwd}/here.sqsh", None, ""),
    ("pyxis", "ubuntu", None, ""),
    ("pyxis", "ubuntu:22.04", None, ""),
    ("pyxis", "team/image:1.0", None, ""),
    ("pyxis", "nvcr.io#nvidia/pytorch:24.07-py3", None, ""),
    ("pyxis", "docker://me@registry.example:5000#team/image:1.0", None, ""),
    ("pyxis", "dockerd://nemo-cot", None, ""),
    ("pyxis", "nvcr.io/nvidia/pytorch:24.07", "warning", "\"KEY='nvcr.io#nvidia/pytorch:24.07'\""),
    ("pyxis", "docker://h:5000/a/b:1", "warning", "\"KEY='docker://h:5000#a/b:1'\""),
    ("pyxis", "library://a/b", "error", "REGISTRY#IMAGE:TAG"),
    ("apptainer", "here.sif", None, ""),
    ("apptainer", "./here.sif", None, ""),
    ("apptainer", "absent.sif", "error", "a path that is there"),
    ("apptainer", "team/image:1.0", "error", "docker://team/image:1.0"),
    ("apptainer", "nvcr.io#nvidia/pytorch:24.07-py3", "error", "docker://"),
    ("apptainer", "docker://nvcr.io#nvidia/pytorch:24.07-py3", "error", "docker://REGISTRY/IMAGE:TAG"),
    ("apptainer", "docker://nvcr.io/nvidia/pytorch:24.07-py3", None, ""),
    ("apptainer", "library://team/image:1.0", None, ""),
    ("apptainer", "oras://registry.example/a:1", None, ""),
    ("apptainer", "docker-daemon:nemo-cot:latest", None, ""),
    ("apptainer", "dockerd://nemo-cot", "error", "docker://REGISTRY/IMAGE:TAG"),
    ("apptainer", "/absent/x.sif", "warning", "correct KEY"),
    ("apptainer", "~/x.sif", "error", "absolute path"),
])  # fmt: skip
def test_what_each_runtime_takes_for_an_image(tmp_path, runtime, image, level, fix):
    for name in ("here.sqsh", "here.sif"):
        (tmp_path / name).touch()
    findings = list(examine_image(runtime, "KEY", image.format(cwd=tmp_path), tmp_path))
    assert [f[0] for f in findings] == ([level] if level else [])
    assert all("KEY" in what and fix in how for _, what, how in findings)


def test_images_of_the_stages_that_run_are_examined():
    findings = found("cluster_images", *PAPER, "cluster.resources.cpu.image=cpu.sqsh")
    told = {f.what.partition(":")[0]: f.level for f in findings}
    assert told == {
        "cluster.container.image": "warning",
        "cluster.resources.cpu.image": "error",
        "cluster.resources.generate.image": "warning",
        "cluster.resources.evaluate.image": "warning",
    }
    alone = found("cluster_images", *PAPER, "launcher.stages=[evaluate]")
    assert [f.what.partition(":")[0] for f in alone] == ["cluster.resources.evaluate.image"]
    (error,) = [
        f for f in found("cluster_images", *PAPER, "cluster.container.image=null") if f.level == "error"
    ]
    assert "no image" in error.what and "cluster.container.image" in error.fix
    assert not found("cluster_images", *PAPER, *NO_CONTAINER)


def test_a_mount_of_what_is_not_here_is_told(tmp_path):
    mounts = f"cluster.container.mounts=['{tmp_path}:/a','{tmp_path}/absent:/b:ro']"
    told = [f for f in found("cluster_mounts", *PAPER, mounts) if f.level == "warning"]
    assert [f"there is no {tmp_path}/absent here" in f.what for f in told] == [True]


@pytest.mark.parametrize("overrides, told", [
    ([*QUICKSTART], {"generate": "no GPUs", "evaluate": "1 GPU,"}),
    ([*QUICKSTART, "cluster.resources.train.gpus_per_node=8", "launcher.stages=[train]"], {"train": "1 GPU,"}),
    (PAPER, {}),
    ([*PAPER, "evaluate.engine.server.num_gpus=4"], {"evaluate": "4 GPUs,"}),
    ([*PAPER, "evaluate.engine.server.base_url=http://h:1/v1"], {"evaluate": "no GPUs"}),
    ([*PAPER, "evaluate.engine.server.launcher=command", "evaluate.engine.server.command=[serve]"], {}),
])  # fmt: skip
def test_gpus_that_would_be_idle_are_told(overrides, told):
    findings = found("cluster_gpus", *overrides)
    assert {f.what.split()[0]: f.level for f in findings} == dict.fromkeys(told, "warning")
    assert all(f"uses {told[f.what.split()[0]]}" in f.what for f in findings)
