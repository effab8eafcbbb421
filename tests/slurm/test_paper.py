"""The paper's experiments on conf/cluster/slurm_8xh100.yaml: every job's command, size, image and mounts.

Written by `submit --dry-run`, with made-up problems and models; no Slurm is needed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.launchers.slurm.submit import submit_chain
from nemo_cot.training.nemo_aligner.command import aligner_command
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from tests.models.headers import write_holes
from tests.support import write_lines
from tests.tiny import write_tiny_tokenizer

TRAINING, SKILLS = "/images/nemo-cot.sqsh", "/images/nemo cot-vllm.sqsh"
CORE, NEMO_SKILLS = "/opt/nemo-cot/venv/bin/python", "/opt/nemo-skills/bin/python"
CLUSTER = [
    "cluster=slurm_8xh100", "cluster.account=me", "cluster.partition=batch", f"cluster.container.image={TRAINING}",
]  # fmt: skip
IMAGES = [f"cluster.resources.{kind}.image='{SKILLS}'" for kind in ("generate", "evaluate")]
CHUNKS = ["generate.chunks=16", "evaluate.chunks=4"]
SAMPLING = ("generate", "evaluate-base", "evaluate-trained", "evaluate-qwen_math_72b")
"""Jobs that sample, where there are no chunks."""
CONVERSIONS = ("hf_to_nemo", "nemo_to_hf")


def write_model(folder: Path) -> Path:
    """What is looked at before submission: a config, a tokenizer, a file of weights."""
    write_holes(folder, {"num_attention_heads": 40, "num_key_value_heads": 8}, {"a": (1,)})
    write_tiny_tokenizer(folder)
    (folder / "tokenizer_config.json").unlink()  # base and Instruct models alike: it names no eos
    return folder


def write_problems(path: Path, number: int) -> Path:
    rows = [{"problem": f"{path.stem} {n}", "expected_answer": str(n)} for n in range(number)]
    return write_lines(path, rows)


@dataclass
class Place:
    """Where submit is called, and models outside of it."""

    cwd: Path
    models: Path

    @property
    def problems(self) -> list[str]:
        return ["problems.train_path=50.jsonl", "problems.heldout_path=heldout.jsonl"]

    @property
    def main(self) -> list[str]:
        named = [f"teacher.path={self.models}/QwQ", f"model.path={self.models}/Qwen2.5-32B"]
        whole = ["generate.chunks=1", "evaluate.chunks=1"]
        return ["experiment=paper_main", *self.problems, *named, *CLUSTER, *IMAGES, self.mounts, *whole]

    @property
    def baselines(self) -> list[str]:
        named = [
            f"model.path={self.models}/Qwen2.5-32B",
            f"evaluate.models.qwen_math_72b.path={self.models}/72B",
        ]
        return ["experiment=paper_baselines", *self.problems, *named, *CLUSTER, *IMAGES, self.mounts]

    @property
    def mounts(self) -> str:
        return f"cluster.container.mounts=['{self.models}:{self.models}:ro']"

    def jobs(self, *overrides: str) -> dict[str, dict]:
        """What job.py reads of each job, and the lines of its script."""
        assert submit_chain([*overrides, "--dry-run"]) == 0
        (folder,) = self.cwd.glob("runs/*/slurm/dry-run")
        found = {}
        for path in sorted(folder.glob("[0-9]*.json")):
            job = json.loads(path.read_text())
            found[job["key"]] = {**job, "script": path.with_suffix(".sbatch").read_text()}
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_disk: None) -> Place:
    cwd, models = tmp_path / "work", tmp_path / "models"
    cwd.mkdir()
    write_problems(cwd / "50.jsonl", 50)
    write_problems(cwd / "heldout.jsonl", 256)
    for name in ("QwQ", "Qwen2.5-32B", "72B"):
        write_model(models / name)
    monkeypatch.chdir(cwd)
    return Place(cwd, models)


def refusal(place: Place, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        submit_chain([*overrides, "--dry-run"])
    assert not list(place.cwd.glob("runs/*/slurm/**/*.sbatch")), "nothing is written"
    return caught.value


def check_container(job: dict, place: Place, image: str) -> None:
    """The recipe is in the container by one srun, and starts there in the light core's Python."""
    command = job["command"]
    assert command[:4] == ["srun", "--nodes=1", "--ntasks=1", f"--container-image={image}"]
    mounted = {f"{path}:{path}" for path in (place.cwd, place.models)}
    (mounts,) = [part for part in command if part.startswith("--container-mounts=")]
    assert {m.removesuffix(":ro") for m in mounts.partition("=")[2].split(",")} == mounted
    assert f"--container-workdir={place.cwd}" in command
    assert {"--no-container-mount-home", "--container-writable"} <= set(command), (
        "vLLM and Triton need a HOME"
    )
    recipe = next(n for n, part in enumerate(command) if part.startswith(job["code"]))
    assert command[recipe - 1 : recipe + 1] == [CORE, f"{job['code']}/nemo_cot/recipes/{job['recipe']}.py"]
    assert "srun" not in command[1:], "no srun within a container"


def test_apptainer_gets_no_option_of_pyxis(place: Place):
    """Nor pyxis those of apptainer; HOME stays mounted, and hides no package of the image."""
    jobs = place.jobs(*place.main, "cluster.container.runtime=apptainer")
    for job in jobs.values():
        nested = load_config(overrides_of(job)).train.srun_arguments if job["key"] == "train" else []
        command = nested or job["command"]
        image = SKILLS if job["key"] in SAMPLING else TRAINING
        uses = job["key"] == "train" or "--gpus-per-node=8" in sizes(job)
        binds = f"--bind {place.cwd}:{place.cwd} --bind {place.models}:{place.models}:ro"
        expected = (
            f"apptainer exec {'--nv ' * uses}--env PYTHONNOUSERSITE=1 {binds} --pwd {place.cwd} {image}"
        )
        assert " ".join(command).startswith(expected), job["key"]
        assert not [part for part in job["command"] if "no-container" in part], job["key"]


def test_every_container_leaves_packages_in_home_alone(place: Place):
    jobs = place.jobs(*place.main)
    for job in jobs.values():
        nested = load_config(overrides_of(job)).train.srun_arguments if job["key"] == "train" else []
        told = [part for part in nested or job["command"] if part.startswith("--export=")]
        uses = job["key"] == "train" or "--gpus-per-node=8" in sizes(job)
        driver = "" if uses else ",NVIDIA_VISIBLE_DEVICES=void"
        assert told == [f"--export=ALL,PYTHONNOUSERSITE=1{driver}"], job["key"]


def test_cpu_stages_may_be_put_onto_gpu_nodes(place: Place):
    jobs = place.jobs(*place.main, "cluster.resources.cpu.gpus_per_node=1")
    assert "--export=ALL,PYTHONNOUSERSITE=1" in jobs["grade"]["command"]


def overrides_of(job: dict) -> list[str]:
    command = job["command"]
    found = command[next(n for n, part in enumerate(command) if part.startswith(job["code"])) + 1 :]
    return found[: found.index("--only")] if "--only" in found else found


def sizes(job: dict) -> set[str]:
    lines = [line.partition(" ")[2] for line in job["script"].splitlines() if line.startswith("#SBATCH")]
    return {
        line for line in lines if line.startswith(("--nodes", "--ntasks", "--gpus", "--array", "--account"))
    }


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_the_papers_chain_is_started_right_in_our_images(place: Place, launcher: str):
    jobs = place.jobs(*place.main, *CHUNKS, f"train.process_launcher={launcher}")
    train = jobs.pop("train")
    for job in jobs.values():
        sampled = job["key"].endswith("-chunks")
        check_container(job, place, SKILLS if sampled else TRAINING)
        gpus = sampled or job["key"] in CONVERSIONS
        array = {"generate-chunks": 16}.get(job["key"], 4) if sampled else 0
        expected = {"--nodes=1", "--ntasks-per-node=1", "--account=me"}
        expected |= {"--gpus-per-node=8"} if gpus else set()
        expected |= {f"--array={','.join(map(str, range(array)))}"} if array else set()
        assert sizes(job) == expected, job["key"]
        if job["key"] in CONVERSIONS:
            cfg = load_config(overrides_of(job))
            assert isinstance(cfg.train, AlignerTrain)
            assert (cfg.train.srun_arguments, cfg.train.python) == ([], "python"), "the container's own"
        if job["key"] in ("generate-chunks", "evaluate-base-chunks"):
            cfg = load_config(overrides_of(job))
            engine = cfg.teacher.engine if job["recipe"] == "generate" else cfg.evaluate.engine
            assert engine.python == engine.server.python == NEMO_SKILLS
    check_training(train, place, launcher)


def check_training(job: dict, place: Place, launcher: str) -> None:
    """The recipe is outside, in the submitter's Python; its srun puts 2 launchers or 16 ranks inside."""
    assert job["command"][:2] == [sys.executable, f"{job['code']}/nemo_cot/recipes/train.py"]
    tasks = 1 if launcher == "torchrun" else 8
    assert sizes(job) == {"--nodes=2", f"--ntasks-per-node={tasks}", "--gpus-per-node=8", "--account=me"}
    cfg = load_config(overrides_of(job))
    assert isinstance(cfg.train, AlignerTrain)
    environment = {"SLURM_JOB_ID": "7", "MASTER_ADDR": "node1"}
    argv = aligner_command(cfg.train, place.cwd / "c.yaml", environment).argv
    assert argv[:4] == ["srun", "--nodes=2", f"--ntasks={2 * tasks}", f"--ntasks-per-node={tasks}"]
    assert argv.count("srun") == 1 and f"--container-image={TRAINING}" in argv
    mounts = next(part for part in argv if part.startswith("--container-mounts="))
    assert f"{place.models}:{place.models}:ro" in mounts and f"{place.cwd}:{place.cwd}" in mounts
    started = argv[argv.index("python") :]
    rest = ["-m", "nemo_cot.training.nemo_aligner.aligner_sft", f"{place.cwd}/c.yaml"]
    assert started[-3:] == rest
    if launcher == "torchrun":
        assert {"--nnodes=2", "--nproc-per-node=8", "--rdzv-endpoint=node1:20007"} <= set(started)
    else:
        assert started == ["python", *rest]


def test_training_on_one_node_is_in_the_container_as_a_whole(place: Place):
    one = ["train.layout.num_nodes=1", "train.layout.gpu_memory_gib=140"]  # as of an H200
    train = place.jobs(*place.main, *one)["train"]
    check_container(train, place, TRAINING)
    cfg = load_config(overrides_of(train))
    assert isinstance(cfg.train, AlignerTrain)
    argv = aligner_command(cfg.train, place.cwd / "c.yaml", {"SLURM_JOB_ID": "7"}).argv
    assert argv[0] == "python" and "--standalone" in argv and "srun" not in argv


@pytest.mark.parametrize("limit, ends", [("00:03:30:00", True), ("00:03:45:00", False), ("00:03:42:00", False)])
def test_a_training_job_has_time_to_start_and_to_save_before_the_warning(place: Place, limit: str, ends: bool):
    """NeMo counts its time from the first step: of 4 hours, 10 minutes are the warning, 5 the start, 4 a save."""
    overrides = [*place.main, f"train.max_time_per_run='{limit}'"]
    if ends:
        assert "train" in place.jobs(*overrides)
        return
    error = refusal(place, *overrides)
    assert "lose the steps since its last save" in error.what and error.where == "train.max_time_per_run"


def test_adapters_train_on_one_node_in_the_container_as_a_whole(place: Place):
    main = [o.replace("paper_main", "paper_lora") for o in place.main]
    for key, job in place.jobs(*main).items():
        check_container(job, place, SKILLS if key in SAMPLING else TRAINING)


def test_the_baselines_are_evaluated_in_the_image_with_vllm(place: Place):
    jobs = place.jobs(*place.baselines)
    assert {job["recipe"] for job in jobs.values()} == {"problems", "convert", "evaluate", "report"}
    for job in jobs.values():
        check_container(job, place, SKILLS if job["key"] in SAMPLING else TRAINING)
        assert ("--gpus-per-node=8" in sizes(job)) == (job["key"] in SAMPLING)
    engine = load_config(overrides_of(jobs["evaluate-base"])).evaluate.engine
    assert engine.python == engine.server.python == NEMO_SKILLS


def test_a_stage_may_have_a_python_of_its_own(place: Place):
    jobs = place.jobs(*place.main, "cluster.resources.cpu.python=/opt/other/python")
    assert "/opt/other/python" in jobs["grade"]["command"] and CORE not in jobs["grade"]["command"]
    assert CORE in jobs["evaluate-base"]["command"]


@pytest.mark.parametrize("kind", ["generate", "evaluate"])
def test_submit_asks_for_the_image_with_vllm(place: Place, kind: str):
    error = refusal(place, *place.main, f"cluster.resources.{kind}.image=null")
    assert f"cluster.resources.{kind}.image" in error.fix and "cluster_images" in error.where


def test_what_is_not_mounted_is_named_with_the_entry_to_add(place: Place):
    none = [o for o in place.main if o != place.mounts]
    error = refusal(place, *none)
    entry = f"{place.models}/QwQ:{place.models}/QwQ:ro"
    assert "cluster.container.mounts" in error.fix and entry in error.fix
    assert f"{place.models}/Qwen2.5-32B:{place.models}/Qwen2.5-32B:ro" in error.fix, "all at once"
    moved = f"cluster.container.mounts=['{place.models}:/models:ro']"
    assert entry in refusal(place, *none, moved).fix, "mounted, but elsewhere"


def test_where_links_lead_must_be_mounted_too(place: Place, tmp_path: Path):
    """A folder behind a link, and files behind links as in Hugging Face's cache."""
    store = tmp_path / "store"
    (place.models / "QwQ").rename(store)
    (place.models / "QwQ").symlink_to(store)
    error = refusal(place, *place.main)
    assert f"{store}:{store}:ro" in error.fix and "teacher.path" in error.what
    both = f"cluster.container.mounts=['{place.models}:{place.models}','{store}:{store}:ro']"
    assert place.jobs(*[o for o in place.main if o != place.mounts], both)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    weights = place.models / "Qwen2.5-32B" / "model.safetensors"
    weights.rename(blobs / "abc")
    weights.symlink_to("../../blobs/abc")
    with pytest.raises(UserError, match=r"model\.path") as caught:
        submit_chain([*place.main, both, "--dry-run"])
    assert f"{blobs}:{blobs}:ro" in caught.value.fix


def test_a_link_that_stays_below_a_mount_is_well(place: Place):
    (place.models / "QwQ").rename(place.models / "v1")
    (place.models / "QwQ").symlink_to("v1")
    assert place.jobs(*place.main)


@pytest.mark.parametrize("override, key", [
    ("cluster.resources.generate.gpus_per_node=4", "cluster.resources.generate.gpus_per_node"),
    ("cluster.resources.evaluate.gpus_per_node=null", "cluster.resources.evaluate.gpus_per_node"),
    ("cluster.resources.evaluate.nodes=2", "cluster.resources.evaluate.nodes"),
    ("cluster.resources.cpu.nodes=2", "cluster.resources.cpu.nodes"),
])  # fmt: skip
def test_a_job_is_as_large_as_what_it_starts(place: Place, override: str, key: str):
    assert key in refusal(place, *place.main, override).fix


def test_local_training_stays_on_one_node(place: Place):
    outside = ["cluster.container.runtime=none", "cluster.python=null"]
    local = ["experiment=quickstart", *CLUSTER, *outside, "cluster.resources.train.nodes=2"]
    assert "cluster.resources.train.nodes" in refusal(place, *local).fix


def test_what_only_the_nodes_can_tell_is_a_warning_of_submit(place: Place, capsys):
    (place.cwd / "here.sqsh").touch()
    place.jobs(*place.main, "cluster.container.image=./here.sqsh")
    said = [
        line.partition("cluster_images: ")[2]
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("warning: preflight, cluster_images: ")
    ]
    assert sorted(line.split()[0] for line in said) == sorted(f"{o.split('=')[0]}:" for o in IMAGES)
    assert all(f"there is no {SKILLS} here" in line and "Fix: correct" in line for line in said)


def test_files_are_read_before_anything_is_queued(place: Place):
    lines = (place.cwd / "50.jsonl").read_text().splitlines()
    (place.cwd / "50.jsonl").write_text("\n".join([*lines, '{"problem": "1 + 1"}']))
    error = refusal(place, *place.main)
    assert "50.jsonl, line 51, field expected_answer" in error.what
    write_problems(place.cwd / "50.jsonl", 10)
    error = refusal(place, *place.main)
    assert "10 problems" in error.what and "curate.num_traces" in error.what
    write_problems(place.cwd / "50.jsonl", 50)
    (place.models / "QwQ" / "tokenizer.json").unlink()
    error = refusal(place, *place.main)
    assert "teacher.path" in error.what and "tokenizer.json" in error.what


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer"])
def test_runs_to_reuse_are_mounted_where_the_recipe_is_in_a_container(place: Place, tmp_path, runtime):
    other = tmp_path / "other"
    other.mkdir()
    image = [f"{key}={tmp_path}/image.sif" for key in (o.split("=")[0] for o in IMAGES)]
    (tmp_path / "image.sif").touch()
    chosen = [] if runtime == "pyxis" else [*image, f"cluster.container.image={tmp_path}/image.sif"]
    jobs = place.jobs(*place.main, *chosen, f"cluster.container.runtime={runtime}", f"reuse=[{other}]")
    assert jobs
    for key, job in jobs.items():
        mounts = [part for part in job["command"] if f"{other}:{other}" in part]
        assert len(mounts) == 1, (key, job["command"])
