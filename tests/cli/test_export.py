"""nemo-cot export, trace and show-tokens: what they write and print of a run, and what they refuse."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from nemo_cot.export.dataset import columns
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.launchers.show_tokens import packed_with, shown_tokens, totals
from nemo_cot.launchers.trace import history_text
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.records import Trace
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import read_manifest, write_manifest
from nemo_cot.traces.history import Station
from tests.cli.test_cli import imported
from tests.support import nemo_cot_here, one_error, recipe_here, rows, tiny_experiment

CHOSEN = "curate/traces.jsonl"


@pytest.fixture
def run(packed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(packed, tmp_path / "runs" / "tiny"))


def load(folder: Path, name: str, cache: Path):
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), name, split="train", cache_dir=str(cache))


# ---- export --dataset


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_data_set_is_what_was_chosen_and_datasets_loads_it(format, run, tmp_path):
    target = tmp_path / "my set"
    done = nemo_cot_here("export", run, "--dataset", target, f"--format={format}", "--pool")
    assert done.returncode == 0, done.stderr
    assert "4 rows in train, 24 rows in pool" in done.stdout
    assert f"hf upload NAME/tiny '{target}' --repo-type dataset" in done.stdout
    chosen, pool = rows(run / CHOSEN), rows(run / "grade/graded.jsonl")
    train, whole = load(target, "default", tmp_path / "cache"), load(target, "pool", tmp_path / "cache")
    assert train["generation"] == [row["generation"] for row in chosen] and set(train.column_names) == set(columns())
    assert [json.loads(text) for text in train["lineage"]] == [row["lineage"] for row in chosen]
    assert [(r["problem_id"], r["sample"]) for r in whole] == [(r["problem_id"], r["sample"]) for r in pool]
    kept = {(r["problem_id"], r["sample"]) for r in chosen}
    assert {(r["problem_id"], r["sample"]) for r in whole if r["chosen"]} == kept and whole["generation"] == [r["generation"] for r in pool]
    assert sorted(r["rank"] for r in whole if r["chosen"]) == [0, 1, 2, 3]


def test_the_reasons_of_the_pool_are_those_of_the_selection(run, tmp_path):
    """Ten megabytes without a rank come first: datasets would take the column for one of nothing."""
    long = [{**row, "generation": "x" * 500_000} for row in rows(run / "grade/graded.jsonl")]
    (run / "grade/graded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    selection = [{"problem_id": r["problem_id"], "sample": r["sample"], "row": n, "chosen": n == 23, "rule": "first" if n == 23 else "too_long",
                  "num_student_tokens": 5, **({"rank": 0} if n == 23 else {}), "measures": {"steps": n / 2}} for n, r in enumerate(long)]  # fmt: skip
    write_jsonl(run / "curate/selection.jsonl", selection)
    assert nemo_cot_here("export", run, "--dataset", tmp_path / "d", "--pool").returncode == 0
    whole = load(tmp_path / "d", "pool", tmp_path / "cache")
    assert whole["rule"] == ["too_long"] * 23 + ["first"] and whole["measure_steps"][5] == 2.5 and whole["rank"][22:] == [None, 0]


def test_the_card_says_how_the_traces_were_made_and_no_path_of_this_machine(run, tmp_path):
    assert nemo_cot_here("export", run, "--dataset", tmp_path / "d").returncode == 0
    card = (tmp_path / "d/README.md").read_text()
    manifest = read_manifest(run / "curate")
    assert manifest is not None and manifest.outputs["traces.jsonl"].sha256[:12] in card and "num_traces: 4" in card
    assert "procedural: 4" in card and "right 4" in card and "# license: to be set by you" in card
    assert str(tmp_path) not in card and str(run) not in card and not re.search(r"/(tmp|root|home)/", card)


def test_hostile_text_stays_text_in_the_card(run, tmp_path):
    manifest = read_manifest(run / "curate")
    assert manifest is not None
    manifest.config["note"] = "```\n# forged\n<script>\x1b[31m"
    write_manifest(run / "curate", manifest)
    lines = rows(run / CHOSEN)
    lines[0]["lineage"] = [{"made_by": "a|b\n## forged", "source": {"<b>": "[x](y)"}}]
    (run / CHOSEN).write_text("".join(json.dumps(row) + "\n" for row in lines))
    assert nemo_cot_here("export", run, "--dataset", tmp_path / "d").returncode == 0
    card = (tmp_path / "d/README.md").read_text()
    table, code = card.split("The config of each stage:")
    assert "\n## forged" not in card and "<b>" not in table and "[x](y)" not in table and "\x1b" not in card
    assert code.strip().startswith("````text") and code.rstrip().endswith("````")


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").write_text("mine")
    one_error(nemo_cot_here("export", run, "--dataset", tmp_path / "full"), str(tmp_path / "full"), "not overwritten")
    one_error(nemo_cot_here("export", run, "--model", tmp_path / "full"), "there is no trained model")
    one_error(nemo_cot_here("export", run, "--dataset", tmp_path / "no/d"), "its directory does not exist")
    (run / CHOSEN).write_text('{"problem_id": 5}\n')
    one_error(nemo_cot_here("export", run, "--dataset", tmp_path / "d"), "traces.jsonl, line 1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "runs"] and (tmp_path / "full/a").read_text() == "mine"


@pytest.mark.parametrize("arguments, parts", [
    (["tiny"], ("says neither --dataset DIR nor --model DIR",)), ([], ("nemo-cot export", "run")),
    (["tiny", "--pool", "--model", "x"], ("--pool and --format belong to --dataset",)),
    (["tiny", "--dataset", "x", "--format", "csv"], ("invalid choice",)), (["tiny", "--data", "x"], ("--data",)),
    (["tinny", "--dataset", "x"], ("no such run", "did you mean tiny?")),
])  # fmt: skip
def test_what_cannot_be_exported_is_one_line(arguments, parts, run):
    one_error(nemo_cot_here("export", *arguments, f"runs_dir={run.parent}"), *parts)


def test_a_model_is_exported_with_its_weights_and_its_card(run, tiny_model, tmp_path):
    assert recipe_here("train", *tiny_experiment(tiny_model, run.parent), "train.max_steps=2").returncode == 0
    done = nemo_cot_here("export", "tiny", "--model", tmp_path / "m", f"runs_dir={run.parent}")
    assert done.returncode == 0, done.stderr
    files = {p.name for p in (run / "train/model").iterdir()}
    assert {p.name for p in (tmp_path / "m").iterdir()} == files | {"README.md"}
    assert (tmp_path / "m/model.safetensors").samefile(run / "train/model/model.safetensors")
    assert not (tmp_path / "m/config.json").samefile(run / "train/model/config.json")
    card = (tmp_path / "m/README.md").read_text()
    assert "\ntiny, taught to reason" in card and str(tmp_path) not in card
    assert "4 chain-of-thought traces" in card and "Not evaluated" in card and "max_steps: 2" in card and "<|im_end|>" in card
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "m") is not None


# ---- trace


def chosen_id(run: Path) -> tuple[str, int]:
    row = rows(run / CHOSEN)[0]
    return row["problem_id"], row["sample"]


def test_a_trace_is_led_back_to_its_problem_and_teacher(run):
    problem_id, sample = chosen_id(run)
    done = nemo_cot_here("trace", run, problem_id)
    assert done.returncode == 0, done.stderr
    stages = re.findall(r"^([\w/]+): 20", done.stdout, re.M)
    assert stages == ["problems", "generate", "grade", "curate", "pack"]
    row = next(r for r in rows(run / CHOSEN) if r["problem_id"] == problem_id)
    for part in (row["problem"].splitlines()[0], row["generation"].splitlines()[0], "teacher.kind procedural", "generate.seed 11",
                 "made_by procedural", "chosen_by curate", "verdict right", f"problem {problem_id}, sample {sample}"):  # fmt: skip
        assert part in done.stdout, part
    assert done.stdout.count(row["generation"].splitlines()[0]) == 1, "the text once, where it came"
    assert nemo_cot_here("trace", run, f"{problem_id}:{sample}").stdout == done.stdout


def test_a_changed_text_is_shown_as_a_diff_and_hostile_text_is_harmless(run):
    """As of a stage that nobody knows yet: it is found by its manifest."""
    problem_id, _ = chosen_id(run)
    traces = read_jsonl(run / CHOSEN, Trace)
    shutil.copytree(run / "curate", run / "transform")
    changed = [t.with_step(transformed_by="digits", dose=0.5) for t in traces]
    for trace in changed:
        trace.generation = trace.generation.replace("Start at", "\x1b[2JBegin at\u202e")
    write_jsonl(run / "transform/traces.jsonl", changed)
    manifest = read_manifest(run / "curate")
    assert manifest is not None
    manifest.stage, manifest.inputs = "transform", {"traces": manifest.outputs["traces.jsonl"]}
    manifest.inputs["traces"].path = CHOSEN
    write_manifest(run / "transform", manifest)
    out = nemo_cot_here("trace", run, problem_id).stdout
    after = out.partition("\ntransform: ")[2]
    assert "transformed_by digits; dose 0.5" in after and "the text was changed" in after
    assert re.search(r"^    -Start at", after, re.M) and r"+\x1b[2JBegin at\u202e" in after
    assert "\x1b" not in out and "\u202e" not in out


@pytest.mark.parametrize("stage, config, shown", [
    ("refine/1-self_checks", {"pass": {"prompt": "self_checks", "changed": "drop"}, "prompt": {"user": "long"}}, "pass.prompt self_checks; pass.changed drop"),
    ("curate", {"curate": {"seed": 1, "filters": {"regex": {"pattern": "wait"}}}}, "curate.filters.regex.pattern wait"),
])  # fmt: skip
def test_the_pass_and_the_filters_of_a_trace_are_named(stage, config, shown, run):
    manifest = read_manifest(run / "curate")
    assert manifest is not None
    manifest.stage, manifest.config = stage, config
    station = Station(stage, "x.jsonl", 1, manifest, {"generation": "x"}, {})
    out = "\n".join(history_text([station], colour=False))
    assert shown in out and "long" not in out


def test_a_trace_of_the_pool_is_found_and_one_that_is_none_is_refused(run):
    problem_id, _ = chosen_id(run)
    other = next(r for r in rows(run / "grade/graded.jsonl") if r["verdict"] == "wrong")
    done = nemo_cot_here("trace", run, f"{other['problem_id']}:{other['sample']}")
    assert done.returncode == 0 and "verdict wrong" in done.stdout and "\npack: " not in done.stdout
    one_error(nemo_cot_here("trace", run, f"{problem_id}:99"), "it has no sample 99", "it has samples")
    one_error(nemo_cot_here("trace", run, "chain-sum-1"), "no trace of such a problem", "did you mean chain_sum-1")
    one_error(nemo_cot_here("trace", run), "nemo-cot trace", "RUN ID")
    left = ({r["problem_id"] for r in rows(run / "problems/train.jsonl")} - {r["problem_id"] for r in rows(run / CHOSEN)}).pop()
    one_error(nemo_cot_here("trace", run, left), "0 of its traces were chosen", f"name one: {left}:0")


# ---- show-tokens


def test_what_is_trained_on_is_shown_apart(run):
    sequences = read_jsonl(run / "pack/sequences.jsonl", TokenSequence)
    first, chosen = sequences[0], rows(run / CHOSEN)[0]
    out = nemo_cot_here("show-tokens", run).stdout
    prompt, _, rest = out.partition(f"--- trained on: {first.num_trained_tokens} tokens\n")
    assert chosen["problem"] in prompt and chosen["generation"] not in prompt
    assert rest.startswith(chosen["generation"] + "«<|im_end|>»\n") and "«<|im_start|>»user" in prompt
    assert f"--- {first.num_prompt_tokens} tokens not trained on, {first.num_trained_tokens} trained on, the last is <|im_end|>" in rest
    tokens, trained = sum(len(s.input_ids) for s in sequences), sum(s.num_trained_tokens for s in sequences)
    assert out.rstrip().endswith(f"4 sequences: {tokens:,} tokens, {trained:,} trained on ({trained / tokens:.1%}); all end in <|im_end|>")
    assert nemo_cot_here("show-tokens", run, "--trace", f"{chosen['problem_id']}:{chosen['sample']}").stdout == out
    one_error(nemo_cot_here("show-tokens", run, "--trace=none"), "there is no trace none among 4 sequences")


def test_a_wrong_mask_and_a_missing_end_of_turn_are_seen(run):
    tokenizer = packed_with(RunDirectory(run))
    (whole, *rest) = read_jsonl(run / "pack/sequences.jsonl", TokenSequence)
    cut = TokenSequence(problem_id="p", sample=0, input_ids=whole.input_ids[:-1], num_prompt_tokens=0)
    shown = shown_tokens(cut, tokenizer, colour=False)
    assert "--- trained on: " in shown and shown.index("trained on") < shown.index("user") and "without <|im_end|> at the end" in shown
    assert "; 3 end in <|im_end|>" in totals([cut, *rest], tokenizer)


def test_colours_mark_the_parts_and_text_cannot_forge_them(run):
    tokenizer = packed_with(RunDirectory(run))
    ids = [*tokenizer.special_ids("<|im_start|>a"), *tokenizer.text_ids("\x1b[31mb<|im_end|>\u202e"), tokenizer.end_of_turn_id]
    shown = shown_tokens(TokenSequence(problem_id="p", sample=0, input_ids=ids, num_prompt_tokens=2), tokenizer, colour=True)
    assert "\x1b[90m\x1b[1;7m<|im_start|>\x1b[0m\x1b[90ma\x1b[0m" in shown
    assert "\x1b[32m\\x1b[31mb<|im_end|>\\u202e\x1b[0m\x1b[32m\x1b[1;7m<|im_end|>\x1b[0m" in shown


def test_the_verbs_are_light(run):
    heavy = {"torch", "transformers", "datasets", "pyarrow", "sympy"}
    assert not imported("show-tokens", run) & heavy and not imported("trace", run, chosen_id(run)[0]) & heavy
