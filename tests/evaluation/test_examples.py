"""Few-shot prompting: which examples stand before a problem, where an answer ends, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config.examples import ExamplesConfig
from nemo_cot.errors import UserError
from nemo_cot.evaluation.examples import Asked, chosen_examples, traces_of_run, turns, with_examples
from nemo_cot.experiment.compose import EXTRA_CONF, load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.preflight.estimate import estimate
from nemo_cot.preflight.rules import preflight
from nemo_cot.records import Problem, Trace
from nemo_cot.text import PromptFormat, TextTokenizer
from tests.support import run_stages, tiny_experiment, write_lines

CHAT = PromptFormat("<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "<|endoftext|>")
PLAIN = "Problem: {problem}\nSolution: {generation}"
ROWS = [
    {"problem_id": "p0", "sample": 3, "problem": "1 + 1", "generation": "the answer is 2"},
    {"problem": "2 + 2", "generation": "4"},
    {"problem_id": "p2", "problem": "3 + 3", "generation": "the answer is the boxed 6"},
]
HELDOUT = [Problem(problem_id="h", problem="5 + 5", expected_answer="10")]


def config(**given: object) -> ExamplesConfig:
    return load_config([]).evaluate.examples.changed({"number": 2, **given}, "evaluate.examples")


def choose(model: Path, folder: Path, heldout=HELDOUT, new: int = 8, context: int | None = None, **given: object):
    settings = config(**given)
    asked = Asked(settings.asked(CHAT), new, context, "evaluate.examples")
    return chosen_examples(write_lines(folder / "set.jsonl", ROWS), settings, asked, model, heldout)


# ---- the prompt


def test_the_examples_are_earlier_turns_of_the_models_own_prompt(tiny_model, tmp_path):
    form = with_examples(config().asked(CHAT), choose(tiny_model, tmp_path), tiny_model)
    turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    text = (
        f"{turn.format('1 + 1')}the answer is 2<|im_end|>\n{turn.format('2 + 2')}4<|im_end|>\n{turn.format('5 + 5')}"
    )
    assert form.text("5 + 5") == text and form.stops == ()
    tokenizer = TextTokenizer(tiny_model, form)
    assert tokenizer.decode(tokenizer.prompt_ids("5 + 5")) == text
    assert tokenizer.count_special(tokenizer.prompt_ids("5 + 5")) == 11


def test_a_template_takes_the_prompts_place_and_its_beginning_ends_an_answer(tiny_model, tmp_path):
    settings = config(template=PLAIN, separator="\n\n", stop=["###"])
    form = with_examples(settings.asked(CHAT), choose(tiny_model, tmp_path), tiny_model)
    assert form.text("5 + 5") == (
        "Problem: 1 + 1\nSolution: the answer is 2\n\nProblem: 2 + 2\nSolution: 4\n\nProblem: 5 + 5\nSolution: "
    )
    assert form.stops == ("\n\nProblem:", "###")


@pytest.mark.parametrize("answer, kept", [
    ("10\n\nProblem: 7", "10"), ("10\n\nProblem", "10\n\nProblem"), ("1###2\n\nProblem: 7", "1"), ("", ""),
    ("10\n\nProblem: 1###", "10"), ("10\n\nProblem: 7\n\nProblem: 8", "10"), ("\n\nProblem: 7", ""),
])  # fmt: skip
def test_an_answer_ends_at_the_first_stop(answer, kept):
    assert config(template=PLAIN, separator="\n\n", stop=["###"]).asked(CHAT).cut(answer) == kept
    assert CHAT.cut(answer) == answer


def test_a_special_token_in_an_example_stays_text(tiny_model):
    shots = replace(config().asked(CHAT).shots, examples=(("1 <|im_end|>", "2 <|im_end|>"),))
    tokenizer = TextTokenizer(tiny_model, replace(CHAT, shots=shots))
    assert tokenizer.count_special(tokenizer.prompt_ids("5 + 5")) == 7


def test_a_bos_stands_once(tiny_model, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "config.json"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<|endoftext|>"}')
    begins = replace(CHAT, prompt="<|endoftext|>" + CHAT.prompt, eos_token=None)
    form = with_examples(config().asked(begins), choose(tiny_model, tmp_path), folder)
    text = form.text("5 + 5")
    assert text.count("<|endoftext|>") == 1 and text.startswith("<|endoftext|><|im_start|>")


def test_a_chat_gets_them_as_turns(tiny_model, tmp_path):
    form = config().asked(replace(CHAT, prompt="Solve: {problem}"))
    assert turns(form, choose(tiny_model, tmp_path)) == (
        {"role": "user", "content": "Solve: 1 + 1"}, {"role": "assistant", "content": "the answer is 2"},
        {"role": "user", "content": "Solve: 2 + 2"}, {"role": "assistant", "content": "4"},
    )  # fmt: skip
    assert form.text("5 + 5") == "Solve: 5 + 5"


# ---- which


@pytest.mark.parametrize("order, problems", [
    ("as_is", ["1 + 1", "2 + 2"]), ("longest", ["3 + 3", "1 + 1"]), ("shortest", ["2 + 2", "1 + 1"]),
])  # fmt: skip
def test_the_order_chooses(tiny_model, tmp_path, order, problems):
    assert [e.problem for e in choose(tiny_model, tmp_path, order=order)] == problems


def test_the_seed_draws(tiny_model, tmp_path):
    drawn = {
        seed: tuple(e.problem for e in choose(tiny_model, tmp_path, order="random", seed=seed)) for seed in range(8)
    }
    assert drawn[3] == tuple(e.problem for e in choose(tiny_model, tmp_path, order="random", seed=3))
    assert len(set(drawn.values())) > 2


def test_a_heldout_problem_is_no_example(tiny_model, tmp_path):
    """The same words, whatever their marks; one that is not chosen does no harm."""
    heldout = [Problem(problem_id="h7", problem=r"$2 + \, 2$", expected_answer="4")]
    with pytest.raises(UserError) as caught:
        choose(tiny_model, tmp_path, heldout)
    assert "'2 + 2'" in caught.value.what and "h7" in caught.value.what and repr(heldout[0].problem) in caught.value.what
    assert [e.problem for e in choose(tiny_model, tmp_path, heldout, number=1)] == ["1 + 1"]


def test_what_exceeds_the_context_is_refused_with_the_sum(tiny_model, tmp_path):
    form = with_examples(config().asked(CHAT), choose(tiny_model, tmp_path), tiny_model)
    prompt = len(TextTokenizer(tiny_model, form).prompt_ids("5 + 5"))
    assert choose(tiny_model, tmp_path, new=8, context=prompt + 8)
    with pytest.raises(UserError, match=rf"max_new_tokens 9 = {prompt + 9}, and the model's context is {prompt + 8}"):
        choose(tiny_model, tmp_path, new=9, context=prompt + 8)
    with pytest.raises(UserError, match="context is 4096"):
        choose(tiny_model, tmp_path, new=4096)
    longer = Problem(problem_id="long", problem="5 + 5 + 5 + 5", expected_answer="20")
    with pytest.raises(UserError, match="of the problem long"):
        choose(tiny_model, tmp_path, [HELDOUT[0], longer, HELDOUT[0]], new=8, context=prompt + 8)


@pytest.mark.parametrize("given, key", [
    ({"number": 0}, "number"), ({"order": "best"}, "order"), ({"seed": -1}, "seed"), ({"nubmer": 3}, "nubmer"),
    ({"number": "x"}, "evaluate.examples"), ({"run": "a", "file": "b"}, "run"), ({"stop": [" "]}, "stop"),
    ({"template": "{problem}"}, "template"), ({"template": "{generation}{problem}"}, "template"),
    ({"template": "{problem} = {generation}"}, "template"), ({"number": 4}, "number"),
])  # fmt: skip
def test_what_means_nothing_is_refused_with_its_key(tiny_model, tmp_path, given, key):
    with pytest.raises(UserError) as caught:
        choose(tiny_model, tmp_path, **given)
    assert caught.value.where.startswith("evaluate.examples") and key in caught.value.where and caught.value.fix


def test_a_given_source_takes_the_others_place():
    assert (config(run="a").changed({"file": "b"}, "k").run, config(file="b").changed({"run": "a"}, "k").file) == (None, None)


def test_a_run_is_found_by_name_and_path_and_its_transformed_traces_count(tmp_path):
    for stage in ("curate", "transform"):
        (tmp_path / "mine" / stage).mkdir(parents=True)
        (tmp_path / "mine" / stage / "traces.jsonl").write_text("{}\n")
    assert traces_of_run("mine", str(tmp_path), key="k").parent.name == "curate"
    (tmp_path / "mine" / "config.yaml").write_text("transform: {steps: [{name: reverse}]}\n")
    assert traces_of_run(str(tmp_path / "mine"), "elsewhere", key="k").parent.name == "transform"
    with pytest.raises(UserError, match="did you mean mine"):
        traces_of_run("mime", str(tmp_path), key="k")


# ---- the chain


@pytest.fixture
def tiny(tiny_model: Path, tmp_path: Path) -> list[str]:
    return ["experiment=quickstart_prompting", *tiny_experiment(tiny_model, tmp_path / "runs", name="few")]


def test_the_quickstarts_base_is_sampled_with_its_chosen_traces_and_scored(tiny, tiny_model, tmp_path):
    """And another run's, a file's, and with a template: the sampled text ends where the next example begins."""
    tiny.append("evaluate.examples.number=2")
    run = run_stages(tiny, "convert", "problems", "generate", "grade", "curate", "evaluate", "report")
    chosen = [json.loads(t) for t in (run.stage("evaluate/examples-prompted") / "examples.jsonl").read_text().splitlines()]
    curated = read_jsonl(run.stage("curate") / "traces.jsonl", Trace)
    assert [(e["problem"], e["generation"]) for e in chosen] == [(t.problem, t.generation) for t in curated[:2]]
    rows = read_jsonl(run.stage("evaluate/prompted") / "generations.jsonl", Trace)
    names = [f"{t.problem_id}:{t.sample}" for t in curated[:2]]
    assert len(rows) == 6 and all(r.lineage == [{"made_by": "prompted", "examples": names}] for r in rows)
    base = read_jsonl(run.stage("evaluate/base") / "generations.jsonl", Trace)
    assert [r.generation for r in base] != [r.generation for r in rows]
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert scores["subjects"].keys() == {"base", "prompted"}
    page = (run.stage("report") / "report.md").read_text()
    assert "prompted" in page and "examples-prompted" not in page.partition("Not run:")[2].partition("\n")[0]


def test_another_set_samples_again_and_another_way_to_the_same_examples_does_not(tiny):
    """The sampling's fingerprint holds the examples themselves."""
    tiny.append("evaluate.examples.number=2")
    run = run_stages(tiny, "convert", "problems", "generate", "grade", "curate", "evaluate")

    def made() -> str:
        return json.loads((run.stage("evaluate/prompted") / "manifest.json").read_text())["fingerprint"]

    first, traces = made(), run.stage("curate") / "traces.jsonl"
    other = traces.parent.parent.parent / "other.jsonl"
    other.write_bytes(traces.read_bytes() * 2)
    run_stages([*tiny, f"evaluate.examples.file={other}"], "evaluate")
    assert made() == first
    other.write_bytes(b"".join(reversed(traces.read_bytes().splitlines(keepends=True))))
    run_stages([*tiny, f"evaluate.examples.file={other}"], "evaluate")
    assert made() != first


def test_a_further_model_may_have_examples_of_its_own(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "shots.yaml").write_text(f"""# @package _global_
evaluate:
  subjects: [base, two, plain]
  models:
    two: &model
      path: {tiny_model}
      prompt: "{{problem}}"
      end_of_turn: <|im_end|>
      eos_token: null
      max_new_tokens: null
      max_model_len: null
      examples: {{number: 1, file: {tmp_path}/set.jsonl, template: "Q: {{problem}} A: {{generation}}"}}
    plain:
      <<: *model
      examples: null
launcher:
  stages: [problems, convert, evaluate]
""")
    write_lines(tmp_path / "set.jsonl", ROWS)
    monkeypatch.setenv(EXTRA_CONF, str(tmp_path / "conf"))
    overrides = ["experiment=shots", *tiny_experiment(tiny_model, tmp_path / "runs", name="shots")]
    run = run_stages(overrides, "convert", "problems", "evaluate")
    assert not (run.path / "evaluate/examples-plain").exists()
    rows = {
        name: read_jsonl(run.stage(f"evaluate/{name}") / "generations.jsonl", Trace) for name in ("two", "plain")
    }
    assert rows["two"][0].lineage[0]["examples"] == ["p0:3"] and "examples" not in rows["plain"][0].lineage[0]
    assert [r.generation for r in rows["two"]] != [r.generation for r in rows["plain"]]


def test_plain_subjects_keep_their_finished_samples():
    """Their config is what it was before examples came."""
    stages = graph(load_config(["evaluate.subjects=[base,prompted]"])).stages
    before = {"sampling", "engine", "samples_per_problem", "seed", "model", "chunks"}
    assert stages["evaluate/base"].config.keys() == before
    assert stages["evaluate/base"].config["model"].keys() == {"prompt", "end_of_turn", "eos_token"}
    assert stages["evaluate/prompted"].needs == ("convert", "problems", "evaluate/examples-prompted")


# ---- before anything runs


@pytest.mark.parametrize("given, part", [
    (["evaluate.examples.run=none"], "there is no run"), (["evaluate.examples.number=5"], "the run chooses 4 traces"),
    (["evaluate.sampling.max_new_tokens=4090"], "2 examples of curate.min_tokens 40 or more"),
    (["evaluate.examples.file=FILE"], "is the held-out problem"),
    (["evaluate.examples.file=FILE", "evaluate.examples.order=longest", "evaluate.sampling.max_new_tokens=4090"], "max_new_tokens 4090 = "),
])  # fmt: skip
def test_plan_refuses_what_the_stage_would(tiny, tmp_path, given, part):
    if "run chooses" not in part:
        tiny.append("evaluate.examples.number=2")
    overrides = [*tiny, *(text.replace("FILE", str(tmp_path / "set.jsonl")) for text in given)]
    cfg = load_config([text.replace(str(tmp_path / "set.jsonl"), "x") for text in overrides])
    from nemo_cot.problems import make_problems

    same = make_problems(cfg.problems, cfg.teacher).heldout[0].problem
    write_lines(tmp_path / "set.jsonl", [{"problem": same, "generation": "the 3"}, *ROWS])
    cfg = load_config(overrides)
    found = [f.what for f in preflight(cfg, estimate(cfg, None, 3), graph(cfg).kinds) if f.rule == "examples_fit"]
    assert any(part in what for what in found), found
