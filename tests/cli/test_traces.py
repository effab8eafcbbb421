"""nemo-cot traces: sets side by side, of files and runs, as a table, JSON and charts; the surprise of a model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from nemo_cot.config.marks import MarksConfig
from nemo_cot.text import PromptFormat, TextTokenizer
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.structure import measure_names
from nemo_cot.traces.structure.profile import Structure
from tests.support import nemo_cot_here, one_error, write_lines

TEXTS = ["First, add 2 and 3.\n\nWait, that's wrong.\n\nAlternatively, 5.\n\n\\boxed{5}", "So \\boxed{5}"]
HOSTILE = "<script>alert(1)</script>\x1b[31m.jsonl"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [{"problem": "2 + 3?", "generation": text, "annotator": who} for text in TEXTS for who in ("ann", "<b>bob")]
    return write_lines(tmp_path / "human.jsonl", rows)


@pytest.fixture
def runs(packed: Path, tmp_path: Path) -> Path:
    shutil.copytree(packed, tmp_path / "runs" / "tiny")
    return tmp_path / "runs"


def cells(done) -> dict[str, list[str]]:
    """The cells of each row of the table behind its name and unit, their columns two blanks apart."""
    assert done.returncode == 0, done.stderr
    rows = (re.split(r" {2,}", line) for line in done.stdout.split("\n\n")[0].splitlines())
    return {name: more for name, *more in rows}


def test_a_file_and_a_run_stand_side_by_side(file, runs, tmp_path):
    out = tmp_path / "found.json"
    done = nemo_cot_here("traces", file, "tiny", f"runs_dir={runs}", "--json", out, "evaluate.bootstrap_resamples=100")
    table = cells(done)
    assert table["measure"] == ["unit", "human.jsonl", "tiny:pool", "tiny:chosen"]
    assert table["traces (problems)"] == ["count", "4 (1)", "24 (6)", "4 (4)"]
    assert table["steps"][:2] == ["steps", "2.5 [2.5, 2.5]"] and table["tokens"][1] == "-"
    assert list(table)[2:-1] == measure_names() and "tiny:pool and tiny:chosen: transitions r = " in done.stdout
    found = msgspec.json.decode(out.read_bytes(), type=Structure)
    assert list(found.sets) == ["human.jsonl", "tiny:pool", "tiny:chosen"] and found.bootstrap_resamples == 100
    kept = json.loads((runs / "tiny/curate/structure.json").read_text())["sets"]
    for name in ("pool", "chosen"):  # the stage found the same, but for the student's tokens, and over more resamples
        own = found.sets[f"tiny:{name}"].measures["keyword_density"]
        assert kept[name]["measures"]["keyword_density"]["value"] == pytest.approx(own.value)


def test_a_place_of_a_run_and_a_split_by_a_key(file, runs):
    assert cells(nemo_cot_here("traces", "tiny:chosen", f"runs_dir={runs}", "--measures", "steps"))["measure"] == ["unit", "tiny:chosen"]
    table = cells(nemo_cot_here("traces", runs / "tiny", "--by", "style", "--measures", "steps,keywords"))
    assert {"tiny:pool good", "tiny:pool wrong", "tiny:chosen good"} <= set(table["measure"]) and len(table) == 5
    assert cells(nemo_cot_here("traces", file, "--by", "annotator"))["measure"][1:] == ["human.jsonl <b>bob", "human.jsonl ann"]


def test_refined_are_the_traces_after_the_last_pass(file, runs):
    for number, kept in ((1, 4), (2, 3), (10, 2)):
        folder = runs / "tiny" / "refine" / f"{number}-paraphrase"
        folder.mkdir(parents=True)
        write_lines(folder / "refined.jsonl", [json.loads(line) for line in file.read_text().splitlines()[:kept]])
    table = cells(nemo_cot_here("traces", "tiny:refined", runs / "tiny/refine/10-paraphrase/refined.jsonl", f"runs_dir={runs}", "evaluate.bootstrap_resamples=100"))
    assert table["traces (problems)"] == ["count", "2 (1)"], "and a set that is named twice is one"


def test_two_files_of_one_name_are_told_apart(file, tmp_path):
    (tmp_path / "other").mkdir()
    other = shutil.copy(file, tmp_path / "other" / file.name)
    assert cells(nemo_cot_here("traces", file, other, file))["measure"] == ["unit", "human.jsonl", str(other)]


def test_marks_are_chosen_by_name(file):
    assert cells(nemo_cot_here("traces", file, "--measures", "keywords"))["keywords"][1] == "1.5 [1.5, 1.5]"
    assert cells(nemo_cot_here("traces", file, "--measures", "keywords", "marks=none"))["keywords"][1] == "0 [0, 0]"


@pytest.mark.parametrize("suffix", ["html", "svg"])
def test_charts_are_well_formed_and_let_no_markup_through(file, tmp_path, suffix):
    hostile = shutil.copy(file, tmp_path / HOSTILE.replace("/", "_"))
    target = tmp_path / f"plot.{suffix}"
    done = nemo_cot_here("traces", file, hostile, "--plot", target, "--by", "annotator")
    assert done.returncode == 0 and "\x1b" not in done.stdout
    text = target.read_text()
    assert "<script" not in text and "<b>" not in text and text.count("<svg") > 15 and "human.jsonl ann" in text
    if suffix == "svg":
        ElementTree.fromstring(text)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        ([], ("no traces are named", "FILE.jsonl|RUN[:WHERE]")),
        (["tiny:chose"], ("there are no traces 'chose'", "pool, chosen")),
        (["tinny"], ("no such file or run", "did you mean tiny?")),
        (["tiny", "--measures", "stepps"], ("there is no measure 'stepps'", "did you mean steps?")),
        (["tiny", "--plot", "x.pdf"], ("neither .html nor .svg",)),
        (["tiny", "--json", "/nowhere/x.json"], ("its directory does not exist",)),
        (["tiny", "--by"], ("--by needs a value",)),
        (["tiny", "--bye", "x"], ("takes no option --bye", "did you mean --by?")),
        (["tiny", "curate.seed=3"], ("takes no key curate.seed=",)),
        (["tiny", "--by", "colour"], ("no row has this key",)),
        (["tiny", "--surprise", "x.jsonl"], ("needs a model",)),
        (["bad.jsonl"], ("bad.jsonl, row 2", "generation is missing or not text (its keys: solution)")),
        (["empty.jsonl"], ("empty.jsonl", "holds no rows")),
    ],
)
def test_a_mistake_is_one_line(arguments, parts, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "bad.jsonl", [{"generation": "x"}, {"solution": "y"}])
    (tmp_path / "empty.jsonl").write_text("\n")
    one_error(nemo_cot_here("traces", f"runs_dir={runs}", *arguments), *parts)


def test_surprise_is_the_mean_negative_log_likelihood(tiny_model, runs, tmp_path):
    """Against transformers' own loss over the same tokens, and summed over steps."""
    import torch
    from transformers import AutoModelForCausalLM

    details = tmp_path / "surprise.jsonl"
    form = ["model=hf_directory", f"model.path={tiny_model}", "evaluate.sampling.precision=fp32"]
    done = nemo_cot_here("traces", "tiny:chosen", f"runs_dir={runs}", "--model", tiny_model, "--surprise", details, *form, "--measures", "steps")
    table = cells(done)
    rows = [json.loads(line) for line in details.read_text().splitlines()]
    traces = [json.loads(line) for line in (runs / "tiny/curate/traces.jsonl").read_text().splitlines()]
    assert len(rows) == len(traces) == 4
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    from nemo_cot.experiment.compose import load_config

    own = load_config(form[:2]).model
    tokenizer = TextTokenizer(tiny_model, PromptFormat(own.prompt, own.end_of_turn, own.eos_token))
    values = []
    for row, trace in zip(rows, traces):
        prompt, answer = tokenizer.prompt_ids(trace["problem"]), tokenizer.answer_ids(trace["generation"])
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        values.append(float(model(input_ids=ids, labels=labels).loss.detach()))
        assert row["tokens"] == len(answer) and row["nats"] / len(answer) == pytest.approx(values[-1], rel=1e-4)
        assert sum(step["tokens"] for step in row["steps"]) == len(answer) - 1
        assert 0 < sum(step["nats"] for step in row["steps"]) < row["nats"]
    assert table["surprise"][1].split()[0] == f"{sum(values) / 4:.3g}"
    assert "surprise_per_step" in table


def test_a_step_gets_the_tokens_that_begin_in_it(tiny_model, tmp_path):
    from nemo_cot.models.loading import load_model, resolve_device
    from nemo_cot.traces.surprise import surprises, token_nats

    tokenizer = TextTokenizer(tiny_model, PromptFormat("Q {problem}\n", "<|im_end|>", "<|endoftext|>"))
    model = load_model(tiny_model, precision="fp32", attention="sdpa", device=resolve_device("cpu"))
    text = "αβ is 1.\n\nWait, the answer is 2."
    path = write_lines(tmp_path / "t.jsonl", [{"problem": "p", "generation": text}])
    marks = Marks(MarksConfig({"english": {"reflect": ["wait"]}}, ["reflect"], []))
    [found] = surprises(path, model, tokenizer, marks)
    first = tokenizer.answer_ids("αβ is 1.\n\n")[:-1]
    assert [(s.kind, s.tokens) for s in found.steps] == [("straight", len(first)), ("reflect", found.tokens - 1 - len(first))]
    nats = token_nats(model, tokenizer.prompt_ids("p"), tokenizer.answer_ids(text))
    assert found.steps[0].nats == pytest.approx(nats[: len(first)].sum(), rel=1e-4)
    assert found.nats == pytest.approx(nats.sum(), rel=1e-6)
