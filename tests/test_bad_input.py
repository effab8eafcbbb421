"""Bad input and bad places: one line that says what, where and the fix; nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from tests.support import (
    SECONDS,
    digests,
    nemo_cot,
    nemo_cot_here,
    one_error,
    recipe_here,
    tiny_experiment,
    write_lines,
)

PROBLEMS = [{"problem": f"{n} + 1", "expected_answer": str(n + 1)} for n in range(8)]


@pytest.fixture
def run(packed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(packed, tmp_path / "runs" / "tiny"))


def overrides(model: Path, run: Path) -> list[str]:
    return tiny_experiment(model, run.parent)


def file_problems(folder: Path, train: list[dict], heldout: list[dict]) -> list[str]:
    return [
        "problems=file",
        f"problems.train_path={write_lines(folder / 'train.jsonl', train)}",
        f"problems.heldout_path={write_lines(folder / 'heldout.jsonl', heldout)}",
    ]


def test_unknown_override():
    one_error(
        nemo_cot_here("run", "train.max_stesp=3"), "train.max_stesp: unknown key", "did you mean train.max_steps?"
    )
    one_error(recipe_here("train", "train.max_stesp=3"), "did you mean train.max_steps?")


@pytest.mark.parametrize("choice, key", [
    (["model=hf_directory", "model.path=/no/such/model"], "model.path"),
    (["teacher=file", "teacher.path=/no/such/file.jsonl"], "teacher.path"),
    (["problems=file", "problems.train_path=/no/a", "problems.heldout_path=/no/b"], "problems.train_path"),
])  # fmt: skip
def test_missing_file_is_refused_before_anything_is_written(choice, key, tmp_path):
    done = nemo_cot_here("run", f"runs_dir={tmp_path / 'runs'}", *choice)
    one_error(done, key, "there is no /no", f"correct {key}")
    assert not (tmp_path / "runs").exists()


def test_missing_file_in_a_recipe_alone(tmp_path):
    paths = [
        "problems=file",
        f"problems.train_path={tmp_path}/a.jsonl",
        f"problems.heldout_path={tmp_path}/b.jsonl",
    ]
    one_error(
        recipe_here("problems", f"runs_dir={tmp_path}", *paths),
        "problems.train_path",
        f"there is no {tmp_path}/a.jsonl",
    )
    assert not (tmp_path / "default").exists()


def test_a_stage_whose_inputs_were_not_made(tiny_model, tmp_path):
    done = recipe_here("train", *tiny_experiment(tiny_model, tmp_path))
    one_error(done, "the stage convert has not been run", "nemo-cot run")


@pytest.mark.parametrize("train, heldout, parts", [
    ([], PROBLEMS[:2], ("the problem set is empty", "problems.train_path=", "problem and expected_answer")),
    (PROBLEMS[:2], [], ("the problem set is empty", "problems.heldout_path=")),
    (PROBLEMS[:2], PROBLEMS[1:3], ("is a training problem too",)),
    ([*PROBLEMS[:2], PROBLEMS[0]], PROBLEMS[2:], ("problem train-3: the training problem is the same as train-1",)),
    ([{"problem": "1"}], PROBLEMS, ("train.jsonl, line 1, field expected_answer",)),
    ([{"problem": " ", "expected_answer": "1"}], PROBLEMS, ("line 1, field problem",)),
    ([{**row, "problem_id": "x"} for row in PROBLEMS[:2]], PROBLEMS[2:], ("the id occurs twice", "x")),
])  # fmt: skip
def test_problem_sets_that_cannot_be(train, heldout, parts, tmp_path):
    done = recipe_here("problems", f"runs_dir={tmp_path}/runs", *file_problems(tmp_path, train, heldout))
    one_error(done, *parts)
    assert not (tmp_path / "runs" / "default" / "problems").exists()


@pytest.mark.parametrize("train, heldout, part", [
    ([*PROBLEMS[:2], PROBLEMS[0]], PROBLEMS[2:], "the training problem is the same as train-1"),
    (PROBLEMS[:2], PROBLEMS[1:3], "the held-out problem is a training problem too"),
])  # fmt: skip
def test_plan_and_run_say_so_before_anything_runs(train, heldout, part, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    arguments = [f"runs_dir={tmp_path}/runs", *file_problems(tmp_path, train, heldout), "curate.num_traces=2"]
    planned = nemo_cot_here("plan", *arguments)
    assert planned.returncode == 2 and part in planned.stdout
    one_error(nemo_cot_here("run", *arguments), part)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("bad, parts", [
    ('{"problem": "1 + 1", "expected_answer": "2"', ("line 3", "correct or remove this line")),
    ('{"problem": ["1"], "expected_answer": "2"}', ("line 3, field problem",)),
    ("[1]", ("line 3", "array")),
])  # fmt: skip
def test_a_corrupt_line_is_named_by_file_line_and_field(bad, parts, tmp_path):
    """Blank lines count: the number is the one that an editor shows."""
    arguments = file_problems(tmp_path, PROBLEMS[:4], PROBLEMS[4:])
    (tmp_path / "train.jsonl").write_text(json.dumps(PROBLEMS[0]) + "\n\n" + bad + "\n")
    one_error(
        recipe_here("problems", f"runs_dir={tmp_path}/runs", *arguments), str(tmp_path / "train.jsonl"), *parts
    )


def test_a_corrupt_line_in_a_teachers_file(tiny_model, run, tmp_path):
    traces = tmp_path / "traces.jsonl"
    first = json.loads((run / "problems" / "train.jsonl").read_text().splitlines()[0])
    good = json.dumps({"problem_id": first["problem_id"], "generation": "x"}) + "\n"
    before = digests(run)
    for bad, part in (
        ("{", f"{traces}, line 3"),
        (json.dumps({**first, "problem": "0", "generation": "x"}), f"line 3: the id {first['problem_id']} is that of"),
        (json.dumps({"problem_id": first["problem_id"]}), "line 3, field generation"),
    ):
        traces.write_text(good + "\n" + bad + "\n")
        one_error(
            recipe_here("generate", *overrides(tiny_model, run), "teacher=file", f"teacher.path={traces}"), part
        )
        assert {k: v for k, v in digests(run).items() if ".partial-" not in k} == before


@pytest.mark.parametrize("stage, name", [("generate", "generations.jsonl"), ("grade", "graded.jsonl")])
def test_an_output_whose_last_line_was_cut_is_made_anew(stage, name, tiny_model, run):
    before = digests(run)
    path = run / stage / name
    path.write_bytes(path.read_bytes()[:-40])
    done = recipe_here(stage, *overrides(tiny_model, run))
    assert done.returncode == 0, done.stderr
    assert f"[{stage}] runs; output {name} is missing or was changed" in done.stdout
    assert digests(run) == before
    if stage == "grade":
        assert f"the last grading cannot be read, so no moves are shown: {path}, line 24" in done.stdout


def test_a_trace_longer_than_the_pack(tiny_model, run):
    before = digests(run)
    done = recipe_here("pack", *overrides(tiny_model, run), "pack.capacity_tokens=90")
    line = one_error(done, "a pack holds 90", "trace chain_sum-", "raise pack.capacity_tokens to ")
    needed = int(line.split("the trace has ")[1].split()[0])
    assert f"to {needed} or more" in line and needed > 90
    assert {k: v for k, v in digests(run).items() if ".partial-" not in k} == before
    longest = max(
        len(json.loads(s)["input_ids"]) for s in (run / "pack" / "sequences.jsonl").read_text().splitlines()
    )
    assert recipe_here("pack", *overrides(tiny_model, run), f"pack.capacity_tokens={longest}").returncode == 0


def eos_is_end_of_turn(model: Path, folder: Path) -> Path:
    """A tokenizer as Qwen2.5-Instruct and SmolLM2-Instruct have it."""
    copy = Path(shutil.copytree(model, folder / "model"))
    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|im_end|>"}))
    return copy


def test_a_tokenizer_whose_eos_occurs_inside_sequences(tiny_model, run, tmp_path):
    model = eos_is_end_of_turn(tiny_model, tmp_path)
    before = digests(run)
    done = recipe_here("convert", *overrides(model, run))
    one_error(done, "model.eos_token", "the tokenizer's eos is '<|im_end|>', the config says '<|endoftext|>'")
    done = nemo_cot_here("run", *overrides(model, run), "model.eos_token='<|im_end|>'")
    one_error(done, "eos_not_in_prompt", "model.prompt holds the eos <|im_end|>")
    done = recipe_here("pack", *overrides(model, run), "model.eos_token='<|im_end|>'")
    one_error(
        done, "occurs inside the sequence, at token ", "trace chain_sum-", "set model.eos_token to a token"
    )
    assert {k: v for k, v in digests(run).items() if ".partial-" not in k} == before


@pytest.mark.parametrize("damage, parts", [
    (lambda m: (m / "config.json").unlink(), ("config.json is missing",)),
    (lambda m: (m / "tokenizer.json").unlink(), ("tokenizer.json is missing",)),
    (lambda m: (m / "model.safetensors").unlink(), ("no *.safetensors weights",)),
    (lambda m: (m / "tokenizer.json").write_text("{"), ("no usable tokenizer.json",)),
])  # fmt: skip
def test_a_model_directory_that_is_not_whole(damage, parts, tiny_model, tmp_path):
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    damage(model)
    one_error(recipe_here("convert", *tiny_experiment(model, tmp_path / "runs")), str(model), *parts)


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("stage, kib", [("problems", 1), ("pack", 3), ("train", 60)])
def test_a_file_larger_than_allowed(stage, kib, tiny_model, run):
    """As on a full disk, without root: writing fails after ``kib``, in Python and in libraries."""
    before = digests(run)
    change = {"problems": "problems.seed=8", "pack": "pack.seed=1", "train": "train.seed=1"}[stage]
    with files_of_at_most(1024 * kib):
        done = recipe_here(stage, *overrides(tiny_model, run), change)
    one_error(done, "the file is larger than is allowed here", "ulimit", code=3)
    assert {k: v for k, v in digests(run).items() if ".partial-" not in k} == before
    assert recipe_here(stage, *overrides(tiny_model, run), change).returncode == 0


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of its own on ``folder``. Skips where it cannot be mounted."""
    folder.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root; test_a_file_larger_than_allowed stands in")
    mounted = _mount("-t", "tmpfs", "-o", f"size={kib}k,mode=777", "tmpfs", folder)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], timeout=SECONDS, check=True)


def _mount(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS)


def fill(disk: Path, *, leave: int) -> Path:
    """Take all of the disk but ``leave`` bytes."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(b"\0" * max(0, free - leave))
    return disk / "filler"


@pytest.mark.parametrize("stage, change, kib", [
    ("problems", "problems.seed=8", 8), ("generate", "generate.seed=12", 12), ("pack", "pack.seed=1", 12),
    ("grade", "grade.fallback=none", 12), ("curate", "curate.seed=1", 8), ("train", "train.seed=1", 400),
    ("evaluate", "evaluate.subjects=[base]", 8), ("report", "report.num_traces_shown=1", 8),
])  # fmt: skip
def test_a_full_disk(stage, change, kib, tiny_model, packed, tmp_path, large_disk):
    """That preflight took for large enough."""
    with small_disk(tmp_path / "disk", 4096) as disk:
        run = Path(shutil.copytree(packed, disk / "tiny"))
        before = digests(run)
        filler = fill(disk, leave=1024 * kib)
        done = recipe_here(stage, *overrides(tiny_model, run), change)
        one_error(done, "the disk is full", "free space, then run the same command again: it resumes", code=3)
        assert {k: v for k, v in digests(run).items() if ".partial-" not in k} == before
        filler.unlink()
        again = recipe_here(stage, *overrides(tiny_model, run), change)
        assert again.returncode == 0, again.stderr
        assert digests(run).keys() >= before.keys()


def test_a_full_disk_under_the_whole_command(tiny_model, packed, tmp_path):
    with small_disk(tmp_path / "disk", 4096) as disk:
        run = Path(shutil.copytree(packed, disk / "tiny"))
        before = digests(run)
        filler = fill(disk, leave=0)
        done = nemo_cot("run", *overrides(tiny_model, run), "problems.seed=8")
        one_error(done, "preflight, disk", "has 0.0 GiB free")
        filler.unlink()
        assert digests(run) == before


def test_preflight_sees_a_disk_that_is_too_small(tiny_model, tmp_path):
    with small_disk(tmp_path / "disk", 256) as disk:
        done = nemo_cot_here("run", *tiny_experiment(tiny_model, disk))
        one_error(done, "preflight, disk", str(disk), "runs_dir=DIR")
        assert list(disk.iterdir()) == []


@contextmanager
def read_only(run: Path) -> Iterator[None]:
    """The run directory as one that cannot be written: a read-only mount as root, else its permissions."""
    if os.geteuid() != 0:
        run.chmod(0o500)
        yield
        run.chmod(0o700)
        return
    bound = _mount("--bind", run, run)
    if bound.returncode != 0:
        pytest.skip(f"cannot bind-mount here: {bound.stderr.strip()}")
    try:
        assert _mount("-o", "remount,bind,ro", run).returncode == 0
        yield
    finally:
        subprocess.run(["umount", "-l", str(run)], timeout=SECONDS, check=True)


def test_a_read_only_run_directory(tiny_model, run):
    before = digests(run)
    with read_only(run):
        for done in (
            recipe_here("problems", *overrides(tiny_model, run), "problems.seed=8"),
            nemo_cot_here("run", *overrides(tiny_model, run)),
        ):
            one_error(done, str(run), "runs_dir=DIR")
        shown = nemo_cot_here("status", *overrides(tiny_model, run))
        assert shown.returncode == 0, shown.stderr
    assert digests(run) == before


@pytest.mark.parametrize("make", [
    lambda place: place.write_text("a file"),
    lambda place: place.symlink_to(place),
], ids=["a file in the way", "a link to itself"])  # fmt: skip
def test_a_place_that_is_no_directory(make, tiny_model, tmp_path):
    place = tmp_path / "place"
    make(place)
    one_error(recipe_here("problems", *tiny_experiment(tiny_model, place)), str(place), "runs_dir=DIR")
    one_error(nemo_cot_here("run", *tiny_experiment(tiny_model, place)), str(place), "runs_dir=DIR")


@pytest.mark.parametrize("verb", ["plan", "run", "report"])
@pytest.mark.parametrize("key", ["model.path", "runs_dir"])
def test_a_home_that_nobody_has_and_a_link_to_itself(verb, key, tiny_model, run, tmp_path, monkeypatch):
    """For which pathlib raises RuntimeError."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for place in ("~no-such-user/place", str(tmp_path / "loop")):
        done = nemo_cot_here(verb, *overrides(tiny_model, run), f"{key}={place}")
        assert done.returncode in (0, 2)
        assert done.returncode == 0 or place in done.stderr + done.stdout
    assert not list(tmp_path.glob("~*"))


def test_a_name_that_is_too_long(tmp_path):
    one_error(recipe_here("problems", f"runs_dir={tmp_path}", "name=" + "x" * 300), "this file name is too long")


HOSTILE = ["new\nline \x1b[31mred", "[bold]rich[/bold] [/]", "'quo'te\" $(touch x) ;=,{}%s", "*?[1] ü \\back"]


def quoted(path: Path) -> str:
    """A path as a Hydra value."""
    return "'" + str(path).replace("'", "\\'") + "'"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_paths_work_and_cannot_forge_output(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    place = tmp_path / name
    place.mkdir(parents=True)
    arguments = [f"runs_dir={quoted(place)}", "problems.num_train=2", "problems.num_heldout=1"]
    done = recipe_here("problems", *arguments)
    assert done.returncode == 0, done.stderr
    assert (place / "default" / "problems" / "train.jsonl").exists()
    shown = nemo_cot_here("status", *arguments)
    assert shown.returncode == 0, shown.stderr
    assert "problems" in shown.stdout and "\x1b" not in shown.stdout
    missing = nemo_cot_here("status", *arguments, "name=none")
    assert one_error(missing, "no such run").isprintable()
    assert not (tmp_path / "x").exists(), "a name was run by a shell"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_files_stays_on_the_error_line(text, tmp_path):
    row = {"problem": "1", "expected_answer": "1", "problem_id": text}
    done = recipe_here(
        "problems",
        f"runs_dir={tmp_path}/runs",
        *file_problems(tmp_path, [row, {**row, "problem": "2"}], [row]),
    )
    assert one_error(done, "the id occurs twice").isprintable()


def test_an_error_keeps_to_one_line_and_survives_pickling():
    import pickle

    error = UserError("a\nb\x1b[2J", where="x\r\ny", fix="z\u2028w")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "x y: a b[2J. Fix: z w"
