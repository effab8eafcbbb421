"""The command line: what it imports, what it answers, its exit codes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from nemo_cot import __version__
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.io import hashing
from tests.support import nemo_cot, one_error, python, recipe, tiny_experiment, wait_for, write_lines

IMPORTED = """
import sys
from nemo_cot.launchers.cli import main
sys.argv = ["nemo-cot", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code
print("IMPORTED", code, *sorted(sys.modules))
"""
HEAVY = {"torch", "transformers", "numpy", "sympy", "reasoning_gym", "safetensors"}


def imported(*arguments: object) -> set[str]:
    """The modules that a command has imported when it ends well."""
    done = python("-c", IMPORTED, *arguments)
    code, *modules = done.stdout.rpartition("IMPORTED ")[2].split()
    assert code == "0", done.stderr
    return set(modules)


def test_help_imports_next_to_nothing():
    modules = imported("--help")
    assert "nemo_cot.launchers.cli" in modules, "the check itself sees imports"
    assert not modules & (HEAVY | {"hydra", "omegaconf", "rich", "nemo_cot.config"})


def test_show_imports_hydra_but_nothing_heavy():
    modules = imported("show", "experiment=quickstart")
    assert "hydra" in modules and not modules & HEAVY


def test_status_imports_nothing_heavy(tmp_path):
    """It loads the recipes, which declare the graph; some of them use NumPy."""
    (tmp_path / "default").mkdir()
    assert not imported("status", f"runs_dir={tmp_path}") & (HEAVY - {"numpy"})


@pytest.mark.parametrize("arguments, code", [
    (["--help"], 0), (["-h"], 0), (["help"], 0), ([], 2), (["run", "--help"], 0), (["show", "-h"], 0),
])  # fmt: skip
def test_help_names_every_verb(arguments, code):
    done = nemo_cot(*arguments)
    assert done.returncode == code and done.stderr == ""
    for verb in ("run", "show", "plan", "submit", "status", "logs", "cancel", "report", "grade"):
        assert f"\n  {verb} " in done.stdout


def test_version():
    assert nemo_cot("--version").stdout == f"{__version__}\n"


def test_an_unknown_verb_names_the_nearest():
    one_error(nemo_cot("shwo"), "there is no verb 'shwo'", "did you mean show?")
    one_error(nemo_cot("xyzzy"), "use one of run, show")


@pytest.mark.parametrize("arguments, parts", [
    (["logs", "train", "--folow"], ["nemo-cot logs: there is no option '--folow'", "did you mean --follow?"]),
    (["status", "--wacth"], ["nemo-cot status: there is no option '--wacth'", "did you mean --watch?"]),
    (["submit", "--dryrun"], ["did you mean --dry-run?"]),
    (["cancel", "--follow"], ["no option '--follow'", "it belongs to nemo-cot logs"]),
    (["run", "--train.max_steps=4"], ["a key is set without dashes: train.max_steps=4"]),
    (["show", "-v"], ["use one of -h, --help"]),
    *([[verb, "--hepl"], ["did you mean --help?"]] for verb in ("run", "show", "plan", "cancel", "report", "grade")),
])  # fmt: skip
def test_an_unknown_option_names_the_nearest_in_every_verb(arguments, parts):
    one_error(nemo_cot(*arguments), *parts)


def test_show_prints_the_resolved_tree_that_runs():
    import yaml

    done = nemo_cot("show", "experiment=quickstart", "train.optim.lr=5e-6")
    shown = yaml.safe_load(done.stdout)
    assert shown["name"] == "quickstart" and shown["train"]["optim"]["lr"] == 5e-6
    assert "${" not in done.stdout and "???" not in done.stdout


def test_show_refuses_what_run_would_refuse():
    one_error(nemo_cot("show", "train.optim.lr=-1"), "train.optim.lr", "below 0")


def test_a_recipes_help_needs_no_config():
    done = recipe("train", "--help")
    assert done.returncode == 0 and "metrics.jsonl" in done.stdout and "key=value" in done.stdout


@pytest.fixture(scope="module")
def begun(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its first two stages done."""
    runs = tmp_path_factory.mktemp("begun")
    done = nemo_cot("run", *tiny_experiment(tiny_model, runs), "launcher.stages=[problems,convert]")
    assert done.returncode == 0, done.stderr
    return runs / "tiny"


@pytest.fixture
def run(begun: Path, tiny_model: Path, tmp_path: Path) -> list[str]:
    """A copy of it, with one more stage in progress."""
    shutil.copytree(begun, tmp_path / "tiny")
    (tmp_path / "tiny" / "train.partial-0123456789ab").mkdir()
    return tiny_experiment(tiny_model, tmp_path)


def test_status_and_plan_of_a_run(run, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    shown = nemo_cot("status", *run, COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    rows = {line.split("│")[1].strip(): line for line in shown.stdout.splitlines() if line.startswith("│")}
    assert "done" in rows["problems"] and "train.jsonl 6 rows" in rows["problems"]
    assert "partial" in rows["train"] and "pack" not in rows, "the last command named two stages"
    assert "nothing is running" in shown.stdout

    planned = nemo_cot("plan", *run, "problems.seed=8", COLUMNS="200")
    assert planned.returncode == 0, planned.stderr
    rows = [line for line in planned.stdout.splitlines() if line.startswith("│")]
    assert any("problems" in line and "problems.seed: 7 -> 8" in line for line in rows)
    assert any("convert" in line and "skip" in line for line in rows)
    assert any(line.startswith("│ report") and " run " in line for line in rows), "after all that runs"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before, "neither writes anything"


def test_plan_of_a_finished_run_leaves_the_report_alone_until_a_stage_runs(run, tmp_path):
    few = "launcher.stages=[problems,convert,report]"
    assert nemo_cot("run", *run, few).returncode == 0
    for more, action in ([], "skip"), (["problems.seed=8"], "open"):
        planned = nemo_cot("plan", *run, few, *more, COLUMNS="200")
        row = next(line for line in planned.stdout.splitlines() if line.startswith("│ report"))
        assert f"│ {action} " in row


def test_plan_says_what_is_not_there_in_a_sentence(run, tmp_path):
    none = ["problems=file", f"problems.train_path={tmp_path}/a", f"problems.heldout_path={tmp_path}/b"]
    given = [key for key in run if not key.startswith("problems.")]
    planned = nemo_cot("plan", *given, *none, COLUMNS="250")
    assert f"not ready: {tmp_path}/a: input train is missing" in planned.stdout and "Errno" not in planned.stdout


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed."""
    hashed: list[Path] = []

    def digest(path: Path) -> str:
        hashed.append(path)
        return "0"

    monkeypatch.setattr("nemo_cot.io.hashing.sha256_of", digest)
    return hashed


def test_plan_hashes_no_model_that_no_stage_has_used(run, digests):
    cfg = load_config([*run, "name=new"])
    actions = {step.stage.name: step.action for step in plan_chain(graph(cfg), run_directory(cfg))}
    assert actions["convert"] == "run" and not digests


def test_plan_says_what_it_does_when_that_takes_long(run, digests, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nemo_cot.stages.engine._MOMENT_SECONDS", 0.01)
    (tmp_path / ".hashes" / "hashes.json").unlink(missing_ok=True)
    said, digest = [], hashing.sha256_of

    def long(path: Path) -> str:  # as long as it takes until something is said
        if not said:
            said.append(wait_for(lambda: capsys.readouterr().err, seconds=60))
        return digest(path)

    monkeypatch.setattr(hashing, "sha256_of", long)
    cfg = load_config(run)
    plan_chain(graph(cfg), run_directory(cfg))
    assert digests and len(digests) == len(set(digests)), "each once"
    assert "hashing the inputs of convert" in said[0]


def test_plan_ends_with_2_when_a_rule_finds_an_error():
    done = nemo_cot("plan", "curate.num_traces=100", COLUMNS="250")
    assert done.returncode == 2 and "asks for 100" in done.stdout and "Traceback" not in done.stderr


def test_status_and_report_of_no_run(tmp_path):
    for verb in ("status", "report"):
        one_error(nemo_cot(verb, f"runs_dir={tmp_path}"), "no such run", str(tmp_path / "default"))
    assert list(tmp_path.iterdir()) == []


def test_report_alone(run, tmp_path):
    done = nemo_cot("report", *run)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "tiny" / "report" / "report.html"
    assert str(page) in done.stdout and page.stat().st_size > 1000


def test_report_is_written_anew_where_nothing_has_changed(run, tmp_path):
    page, written = tmp_path / "tiny" / "report" / "report.html", set()
    for overrides in (run, run, [f"runs_dir={tmp_path}", "name=tiny"]):
        done = nemo_cot("report", *overrides)
        assert done.returncode == 0 and "[report] runs" in done.stdout, done.stderr
        written.add((page.stat().st_mtime_ns, page.read_bytes()))
    assert len(written) == 3 and len({content for _, content in written}) == 1
    titled = nemo_cot("report", f"runs_dir={tmp_path}", "name=tiny", "report.title=Another one")
    assert titled.returncode == 0 and "Another one" in page.read_text()


def test_report_names_a_damaged_manifest(run, tmp_path):
    manifest = tmp_path / "tiny" / "convert" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    done = nemo_cot("report", *run)
    assert done.returncode == 0, done.stderr
    for name in ("report.md", "report.html"):
        text = (tmp_path / "tiny" / "report" / name).read_text().replace("\\", "")
        assert "damaged manifest" in text and str(manifest) in text and "the stage runs again" in text
        assert "convert" not in text.partition("Not run: ")[2].partition("\n")[0]


def test_status_names_a_damaged_manifest_and_shows_the_rest(run, tmp_path):
    manifest = tmp_path / "tiny" / "convert" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    shown = nemo_cot("status", *run, COLUMNS="400")
    assert shown.returncode == 0, shown.stderr
    rows = {line.split("│")[1].strip(): line for line in shown.stdout.splitlines() if line.startswith("│")}
    assert "damaged" in rows["convert"] and f"remove {manifest}" in rows["convert"]
    assert "done" in rows["problems"] and "partial" in rows["train"]


def test_a_run_may_be_given_by_name_or_path_alone(run, tmp_path):
    named = [["tiny", f"runs_dir={tmp_path}"], [str(tmp_path / "tiny")], ["name=tiny", f"runs_dir={tmp_path}"]]
    shown = [nemo_cot("status", *arguments, COLUMNS="200") for arguments in named]
    assert all(done.returncode == 0 and "train.jsonl 6 rows" in done.stdout for done in shown), shown
    assert len({done.stdout for done in shown}) == 1
    long = "report.title=" + 300 * "x"  # no file can have that name
    assert nemo_cot("status", *named[0], long, COLUMNS="200").stdout == shown[0].stdout
    one_error(nemo_cot("status", "tiyn", f"runs_dir={tmp_path}"), "no such run", "did you mean name=tiny?")
    one_error(nemo_cot("cancel", "tiyn", f"runs_dir={tmp_path}"), "no such run", "did you mean name=tiny?")
    for more in ("other", "name=other"):
        one_error(nemo_cot("status", "tiny", more), "nemo-cot status: both the run tiny and", more, "name one of them")


def test_an_experiment_or_a_study_without_its_key():
    one_error(nemo_cot("run", "quickstart"), "'quickstart': is not an override", "write experiment=quickstart")
    one_error(nemo_cot("plan", "quickstart_seeds"), "write study=quickstart_seeds")


def test_the_verbs_about_a_run_need_only_its_name(tmp_path):
    """Not the values that the experiment must be given; the stages are those of the run's config.yaml."""
    from nemo_cot.experiment.compose import compose_config, to_yaml
    from tests.experiment.test_config import NEEDED

    where = [f"runs_dir={tmp_path}", "name=paper_main"]
    tree = compose_config(["experiment=paper_main", *NEEDED["experiment/paper_main"], "generate.chunks=2"])
    (tmp_path / "paper_main").mkdir()
    for experiment in ([], ["experiment=paper_main"]):
        bare = nemo_cot("status", f"runs_dir={tmp_path}", *(experiment or ["name=paper_main"]), COLUMNS="200")
        assert bare.returncode == 0 and ("hf_to_nemo" in bare.stdout) == bool(experiment), bare.stderr
    (tmp_path / "paper_main" / "config.yaml").write_text(to_yaml(tree))
    shown = nemo_cot("status", *where, COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    rows = [line.split("│")[1].strip() for line in shown.stdout.splitlines() if line.startswith("│")]
    assert {"hf_to_nemo", "nemo_to_hf", "generate/chunk-001"} <= set(rows)
    for overrides in (where, [where[0], "experiment=paper_main"]):
        one_error(nemo_cot("logs", *overrides), "nothing was submitted")
        reported = nemo_cot("report", *overrides)
        assert reported.returncode == 0, reported.stderr
    assert "20 right traces by c" in (tmp_path / "paper_main" / "report" / "report.md").read_text().replace(
        "\\", ""
    )


def test_a_run_with_nearly_that_name_is_named(tmp_path):
    (tmp_path / "paper_main").mkdir()
    for verb in ("status", "logs", "cancel", "report"):
        one_error(nemo_cot(verb, f"runs_dir={tmp_path}", "name=paper_mian"), "did you mean name=paper_main?")


def test_grade_keeps_the_keys_of_other_projects(tmp_path):
    rows = [
        {
            "id": 7,
            "problem": "1+1",
            "expected_answer": "2",
            "generation": "so \\boxed{2}",
            "ümlaut": [1, {"x": None}],
        },
        {"id": 8, "problem": "1+2", "expected_answer": 3, "generation": "\\boxed{4}", "generation_time": 1.5},
        {"id": 9, "problem": "1+3", "expected_answer": "4", "generation": ""},
    ]
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    done = nemo_cot("grade", source, target, "grade.workers=1")
    assert done.returncode == 0, done.stderr
    graded = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["verdict"] for row in graded] == ["right", "wrong", "wrong"]
    assert [row["symbolic_correct"] for row in graded] == [True, False, False]
    assert [{key: row[key] for key in old} for row, old in zip(graded, rows, strict=True)] == rows
    assert "3 rows: right 1, wrong 2" in done.stdout


def test_grade_says_how_it_is_called(tmp_path):
    one_error(nemo_cot("grade"), "0 files given, not 2", "nemo-cot grade INPUT.jsonl OUTPUT.jsonl")
    source = write_lines(tmp_path / "in.jsonl", [{"generation": "x"}])
    one_error(
        nemo_cot("grade", tmp_path / "none.jsonl", tmp_path / "out.jsonl"), "none.jsonl", "no such file"
    )
    one_error(nemo_cot("grade", source, tmp_path / "no" / "out.jsonl"), "no such directory")
    one_error(nemo_cot("grade", source, tmp_path / "out.jsonl"), "line 1, field expected_answer")
    one_error(
        nemo_cot("grade", source, tmp_path / "out.jsonl", "grade.fallbck=none"),
        "did you mean grade.fallback?",
    )
    assert not (tmp_path / "out.jsonl").exists()


def test_grade_never_replaces_its_input_or_what_is_no_file(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"generation": "\\boxed{1}", "expected_answer": "1"}])
    before = source.read_bytes()
    (tmp_path / "hard.jsonl").hardlink_to(source)
    (tmp_path / "soft.jsonl").symlink_to(source)
    os.mkfifo(tmp_path / "pipe")
    for name in ("in.jsonl", "hard.jsonl", "soft.jsonl"):
        one_error(nemo_cot("grade", source, tmp_path / name), "is also the input", "choose another OUTPUT")
    one_error(nemo_cot("grade", source, tmp_path / "pipe"), "is a device or a pipe, not a file")
    assert (tmp_path / "pipe").is_fifo() and source.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc, where no file can be made")
def test_grade_says_what_cannot_be_read_or_written(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"generation": "\\boxed{1}", "expected_answer": "1"}])
    one_error(nemo_cot("grade", source, "/proc/x.jsonl"), "/proc/x.jsonl: cannot be written (No such file")
    one_error(nemo_cot("grade", "/proc/self/mem", tmp_path / "out.jsonl"), "/proc/self/mem: cannot be read")
