"""The stage curate as a run has it: its inputs, what it writes, and the processes that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.io.json_file import read_json
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.records import Trace
from nemo_cot.traces import parallel
from nemo_cot.traces.candidates import SelectionRow
from nemo_cot.traces.pool import read_pool
from nemo_cot.traces.structure.profile import Structure
from tests.support import SECONDS, environment, rows, run_stages, tiny_experiment, wait_for, write_lines

STAGES = ("convert", "problems", "generate", "grade", "curate")


def stage(*overrides: str):
    return whole_graph(load_config(["experiment=quickstart", *overrides])).stages["curate"]


def test_stages_that_finished_before_the_new_keys_stay_valid():
    old = {"num_traces": 20, "per_problem": 1, "min_tokens": 64, "max_tokens": 128, "target_tokens": 96, "order": "shuffle",
           "verdicts": ["right"], "seed": 13}  # fmt: skip
    found = stage()
    assert found.config.keys() == {"curate", "model"} and found.config["curate"] == old
    assert found.inputs.keys() == {"graded", "tokenizer"}
    assert stage("curate.filters.regex.pattern=wait", "curate.filters.boxes.most=2").config.keys() == {"curate", "model"}
    scores = whole_graph(load_config(["experiment=quickstart"])).stages["evaluate/scores"]
    assert scores.config.keys() == {"grade", "grader_version", "evaluate"}


@pytest.mark.parametrize(
    "override",
    ["curate.measures=[steps]", "curate.filters.measure.bounds.steps.least=2", "marks=mixed", "curate.filters.boxes.final=true",
     "marks.shifts=[check]", "marks.words.english.check=[let us see]"],
)  # fmt: skip
def test_marks_count_where_they_decide_or_are_not_the_shipped_ones(override):
    assert "marks" in stage(override).config


@pytest.mark.parametrize(
    "override, key, value",
    [
        ("curate.subset.level=3", "subset", {"level": 3}),
        ("curate.subset={level: [3, 4]}", "subset", {"level": [3, 4]}),
        ("curate.filters.measure.bounds.steps.least=2", "filters", {"measure": {"bounds": {"steps": {"least": 2}}}}),
        ("curate.ties=[longest]", "ties", ["longest"]),
        ("curate.balance=annotator", "balance", "annotator"),
        ("curate.num_problems=4 curate.per_problem=5", "num_problems", 4),
    ],
)
def test_keys_are_set_on_the_command_line(override, key, value):
    parts = override.split(" ") if "{" not in override else [override]
    assert stage(*parts).config["curate"][key] == value


def test_a_mix_is_set_on_the_command_line():
    config = stage("curate.verdicts=[right,wrong]", "curate.verdict_mix.right=3", "curate.verdict_mix.wrong=1").config["curate"]
    assert config["verdict_mix"] == {"right": 3.0, "wrong": 1.0}


@pytest.fixture(scope="module")
def overrides(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run up to its graded traces, with problems out of files that have a column of their own."""
    folder = tmp_path_factory.mktemp("curate")
    train = [{"problem": f"What is {i} + 3?", "expected_answer": str(i + 3), "level": 1 + i % 2} for i in range(8)]
    heldout = [{"problem": f"What is {i}+3 ?" if i == 5 else f"Add {i} to 70 and to 900.", "expected_answer": "1"} for i in range(5, 8)]
    heldout[0]["problem"] = "What  is 5 - 3?"
    paths = [f"problems.train_path={write_lines(folder / 'train.jsonl', train)}",
             f"problems.heldout_path={write_lines(folder / 'heldout.jsonl', heldout)}"]  # fmt: skip
    made = [*tiny_experiment(tiny_model, folder / "runs"), "problems=file", *paths, "generate.samples_per_problem=6"]
    made = [o for o in made if not o.startswith("problems.num")]
    run_stages(made, *STAGES[:-1])
    return made


def test_everything_that_curation_writes(overrides):
    more = ["curate.filters.contamination.fuzzy=70", "curate.subset.level=2", "curate.measures=[steps,keywords]", "curate.order=diverse",
            "curate.num_traces=2"]  # fmt: skip
    folder = run_stages([*overrides, *more], "curate").stage("curate")
    traces, table = read_jsonl(folder / "traces.jsonl", Trace), read_jsonl(folder / "selection.jsonl", SelectionRow)
    assert len(table) == 8 * 6 and [row.row for row in table] == list(range(48))
    chosen = sorted((row for row in table if row.chosen), key=lambda row: row.rank)
    assert [(t.problem_id, t.sample) for t in traces] == [(row.problem_id, row.sample) for row in chosen]
    assert [row.rank for row in chosen] == [0, 1] and {row.rule for row in chosen} == {"diverse"}
    assert {row.keys["level"] for row in chosen} == {"2"} and all(row.keys["level"] == "1" for row in table if row.rule == "subset")
    dropped = json.loads((folder / "dropped.json").read_text())
    assert sum(dropped.values()) == 46 and dropped["subset"] == sum(row.rule == "subset" for row in table)
    assert all(row.measures.keys() == {"steps", "keywords"} for row in table)
    assert traces[0].lineage[-1] == {"chosen_by": "curate", "rank": 0, "filters": ["contamination"]}
    flagged = rows(folder / "flagged.jsonl")
    assert flagged and all(row["text"] and row["heldout_text"] == "What  is 5 - 3?" and row["kind"] == "fuzzy" for row in flagged)
    assert len({row["problem_id"] for row in flagged}) == len(flagged)
    found = read_json(folder / "structure.json", Structure, fix="")
    assert {name: (p.traces, p.problems) for name, p in found.sets.items()} == {"pool": (48, 8), "chosen": (2, 2)}


def test_several_processes_find_what_one_does(overrides, monkeypatch):
    config = [*overrides, "curate.filters.contamination.fuzzy=70", "curate.order=diverse", "curate.measures=[steps]"]
    cfg, run = load_config(config), run_stages(config, "problems")
    graded, heldout = run.stage("grade") / "graded.jsonl", []
    tokenizer = Path(cfg.model.path)
    alone = read_pool(graded, tokenizer, cfg.model, cfg.curate, cfg.marks, heldout)
    monkeypatch.setattr(parallel, "ALONE", 0)
    monkeypatch.setattr(parallel, "AT_ONCE", 3000)
    several = read_pool(graded, tokenizer, cfg.model, cfg.curate, cfg.marks, heldout)
    for a, b in zip(alone.candidates, several.candidates, strict=True):
        assert (a.row, a.offset, a.length, a.text, a.reason, a.measures) == (b.row, b.offset, b.length, b.text, b.reason, b.measures)
        assert (a.vector is None) == (b.vector is None) and (a.vector is None or (a.vector == b.vector).all())
    for candidate in several.candidates:
        assert parallel.row_at(graded, candidate.offset, Trace).sample == candidate.sample


@pytest.mark.parametrize("processes", [False, True])
def test_a_bad_row_is_named_with_its_line(tmp_path, monkeypatch, processes):
    lines = [b'\xef\xbb\xbf{"n": 1}\r\n', b"\n", b'{"n": 2}\r\n', b'{"n": \n'] + [b'{"n": 3}\n'] * 5
    (tmp_path / "t.jsonl").write_bytes(b"".join(lines))
    if processes:
        monkeypatch.setattr(parallel, "ALONE", 0)
        monkeypatch.setattr(parallel, "AT_ONCE", 8)
    with pytest.raises(UserError) as caught:
        list(parallel.over_rows(tmp_path / "t.jsonl", dict, plain, (), label="t"))
    assert caught.value.where.endswith("t.jsonl, line 4")
    good = tmp_path / "good.jsonl"
    good.write_bytes(b"".join(lines[:3] + lines[4:]))
    found = list(parallel.over_rows(good, dict, plain, (), label="t"))
    assert [n for n, _, _ in found] == [1, 2, 3, 3, 3, 3, 3] and [number for _, _, number in found] == list(range(7))
    assert all(parallel.row_at(good, offset, dict)["n"] == n for n, offset, _ in found)


def plain():
    return lambda lines: [(line.row["n"], line.offset, line.number) for line in lines]


def slow():
    def work(lines):
        time.sleep(2 * SECONDS)  # nobody waits until they end by themselves
        return lines

    return work


def test_workers_end_when_their_parent_is_killed(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", [{"n": "x" * 2000}] * 30)
    code = (
        "from pathlib import Path\nfrom nemo_cot.traces import parallel\nfrom tests.traces.test_curate import slow\n"
        "if __name__ == '__main__':\n    parallel.ALONE, parallel.AT_ONCE = 0, 3000\n"
        f"    list(parallel.over_rows(Path({str(path)!r}), dict, slow, (), label='t'))\n"
    )
    (tmp_path / "script.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path / "script.py"], env=environment(), stderr=subprocess.DEVNULL)
    try:
        children = wait_for(lambda: len(found := workers(parent.pid)) >= 2 and found)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_for(lambda: not any(alive(pid) for pid in children))
    finally:
        parent.kill()


def workers(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
