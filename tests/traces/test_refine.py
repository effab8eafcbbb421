"""Refinement: what a model is asked, what becomes of its reply by each rule, and passes over real and faulty
servers.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from nemo_cot.config.prompts import PromptConfig
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.traces.refine import answers_changed, begun, decided, fields, new_text
from tests.scripted_server import Raw, scripted
from tests.support import one_error, recipe_here, rows, run_stages, tiny_experiment
from tests.traces.test_transforms import LETTERS, marks, trace


def prompt(
    user: str = "{problem}|{generation}", result: str = "replace", between=(), system=None
) -> PromptConfig:
    return PromptConfig(system, [], user, result, list(between))


# What is asked


def test_fields_are_filled_once_and_other_braces_stay():
    filled = prompt(r"{problem} {generation} {x} \boxed{} {{problem}}").filled(
        {"problem": "{generation}", "generation": "{problem}$"}
    )
    assert filled == r"{generation} {problem}$ {x} \boxed{} {{generation}}"


def test_the_fields_of_a_trace():
    found = fields(trace("<think>\na\n\nb\n</think>\n\n\\boxed{4}"), 1.0, marks())
    assert found == {"problem": "?", "generation": "<think>\na\n\nb\n</think>\n\n\\boxed{4}", "thought": "a\n\nb",
                     "solution": "</think>\n\n\\boxed{4}", "beginning": "<think>\na\n\nb\n</think>\n\n\\boxed{4}"}  # fmt: skip


@pytest.mark.parametrize(
    "share, text",
    [(1.0, LETTERS), (0.5, "Wait a.\n\nWait b.\n\nWait c.\n\nWait d.\n\nWait e.\n\n"), (0.0, "")],
)
def test_the_beginning_is_a_share_of_the_steps(share, text):
    assert begun(LETTERS, share, marks()) == text


def test_a_chat_and_the_same_in_one_message():
    one = load_config(["teacher=model", "teacher.prompt=guided"]).prompts["guided"]
    assert [turn["role"] for turn in one.turns] == ["system", "user", "assistant"]
    text = one.in_one_message("last")
    assert text.startswith(one.system) and text.endswith("last") and "Answer:\nUnderstand" in text


# What becomes of a reply


@pytest.mark.parametrize(
    "made, reply, text",
    [
        (prompt(), " new \n", "new"),
        (prompt(), " \n", None),
        (prompt(between=("<a>", "</a>")), "Sure! <a>\nnew\n</a> Bye", "new"),
        (prompt(between=("<a>", "</a>")), "<a>draft</a> no: <a>new</a>", "new"),
        (prompt(between=("<a>", "</a>")), "new", None),
        (prompt(between=("<a>", "</a>")), "<a>new", None),
        (prompt(between=("<a>", "</a>")), "</a><a>", None),
        (prompt(between=("<a>", "</a>")), "<a> </a>", None),
        (prompt(result="thought"), "new", "<think>\nnew\n</think>\n\\boxed{4}"),
        (prompt(result="append"), "new", "<think>\nWait a.\n\nnew"),
    ],
)
def test_the_text_of_a_reply(made, reply, text):
    one = trace("<think>\nWait a.\n\nWait b.\n</think>\n\\boxed{4}")
    assert new_text(made, one, reply, 0.5, marks()) == text


def refine_pass(**own):
    return load_config(
        [f"refine.passes=[{{{', '.join(f'{k}: {v}' for k, v in {'prompt': 'paraphrase', **own}.items())}}}]"]
    ).refine.each()[0]


TROUBLE = {
    "empty": ("", "stop", ("revert", "drop")),
    "cut": ("It is \\boxed{4}", "length", ("keep", "revert", "drop")),
    "changed": ("It is \\boxed{5}", "stop", ("keep", "revert", "drop")),
}


@pytest.mark.parametrize("trouble, rule", [(t, r) for t, (*_, rules) in TROUBLE.items() for r in rules])
def test_each_trouble_by_each_rule(trouble, rule):
    text, reason, _ = TROUBLE[trouble]
    others = {name: "keep" if name != "empty" else "drop" for name in TROUBLE if name != trouble}
    cfg = load_config([])
    bad, good = trace("Old \\boxed{4}"), trace("Old \\boxed{4.0}", "q", expected="4")
    replies = [
        msgspec.structs.replace(trace(text, "p:0"), finish_reason=reason, num_generated_tokens=7),
        trace("New \\boxed{4}", "q:0"),
    ]
    after, outcomes = decided(
        refine_pass(**{trouble: rule}, **others), prompt(), [bad, good], replies, marks(), cfg.grade
    )
    done = {"keep": "kept", "revert": "reverted", "drop": "dropped"}[rule]
    assert outcomes == Counter({f"{trouble}: {done}": 1, "refined": 1})
    assert after[-1].generation == "New \\boxed{4}" and after[-1].lineage[-1]["outcome"] == "refined"
    assert len(after) == (1 if rule == "drop" else 2)
    if rule != "drop":
        assert after[0].generation == ("Old \\boxed{4}" if rule == "revert" else text)
        assert after[0].finish_reason == (reason if rule == "keep" else "stop")
        assert after[0].num_generated_tokens == (7 if rule == "keep" else 9)
        assert (
            after[0].lineage[-1]
            | {"refined_by": "paraphrase", "pass": 1, "outcome": f"{trouble}: {done}", "tokens": 7}
            == after[0].lineage[-1]
        )


def test_the_tokens_of_a_refined_trace_are_those_of_the_reply():
    """Of a beginning that another model wrote they are not known."""
    one = trace("<think>\nWait a.\n\nWait b.\n</think>\n\\boxed{4}")
    reply = msgspec.structs.replace(trace("so \\boxed{4}", "p:0"), num_generated_tokens=7)
    [after], _ = decided(refine_pass(beginning=0.5), prompt(result="append"), [one], [reply], marks(), load_config([]).grade)
    assert after.num_generated_tokens == 7 < one.num_generated_tokens and after.generation.startswith("<think>\nWait a.")


def test_what_counts_as_a_changed_answer():
    before = [r"\boxed{4}", r"\boxed{\frac12}", r"\boxed{4}", "no answer", r"\boxed{4}"]
    after = [r"so \boxed{4.0}", r"\boxed{0.5}", r"\boxed{5}", r"\boxed{7}", "it is lost"]
    cfg = load_config(["grade.fallback=none"]).grade
    assert answers_changed([trace(text) for text in before], after, cfg) == [False, False, True, False, True]
    named = msgspec.structs.replace(trace("the answer: Paris"), scorer="text", expected_answer="Rome")
    cfg = load_config(["grade.fallback=phrase"]).grade
    assert answers_changed([named] * 3, ["answer: the paris", "answer: Rome", "lost"], cfg) == [False, True, True]


# The chain


@pytest.fixture(scope="module")
def generated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that is done up to generate: 6 problems with 4 traces each."""
    overrides = tiny_experiment(tiny_model, tmp_path_factory.mktemp("refine"))
    return run_stages(overrides, "convert", "problems", "generate").path, overrides


@pytest.fixture
def run(generated: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of it, with its overrides."""
    path, overrides = generated
    shutil.copytree(path, tmp_path / "tiny")
    return tmp_path / "tiny", [*overrides, f"runs_dir={tmp_path}"]


def over(server, *passes: str, chat: bool = True) -> list[str]:
    """Overrides of passes over ``server``."""
    return [
        f"refine.passes=[{','.join(passes)}]", "refine.engine=openai", "refine.engine.server.neutral=true",
        f"refine.engine.server.base_url={server.base_url}",
        f"refine.engine.server.model_name={server.name}", "refine.engine.retries=1", f"refine.engine.endpoint={'chat' if chat else 'text'}",
        "refine.sampling.max_new_tokens=400",
    ]  # fmt: skip


def shout(body: dict) -> str:
    """What an obedient editor does: the solution in capitals, between the markers."""
    text = body["messages"][-1]["content"]
    solution = text.partition("Solution:\n")[2]
    return f"Here it is: <solution>\n{solution.upper().replace('BOXED', 'boxed')}\n</solution>"


def test_without_passes_there_is_no_stage_and_grade_reads_generate():
    stages = whole_graph(load_config([])).stages
    assert not any(name.startswith(("refine", "transform")) for name in stages)
    assert stages["grade"].inputs["generations"].stage == "generate"
    assert stages["pack"].inputs["traces"].stage == "curate"
    passes = [
        "refine.passes=[{prompt:harmonise},{prompt:self_checks}]",
        "transform.steps=[{name:digits,dose:1}]",
    ]
    stages = whole_graph(load_config(passes)).stages
    order = [
        n
        for n in stages
        if n
        in ("generate", "refine/1-harmonise", "refine/2-self_checks", "grade", "curate", "transform", "pack")
    ]
    assert order == [
        "generate",
        "refine/1-harmonise",
        "refine/2-self_checks",
        "grade",
        "curate",
        "transform",
        "pack",
    ]
    assert stages["grade"].inputs["generations"].stage == "refine/2-self_checks"
    assert stages["pack"].inputs["traces"].stage == "transform"


def test_two_passes_over_a_server_and_the_grade_of_the_last(run):
    path, overrides = run
    with scripted(say=shout) as server:
        chain = [
            *overrides,
            *over(
                server,
                "{prompt: edit_structure}",
                "{prompt: self_checks, seed: 5, sampling: {temperature: 0.1}}",
            ),
        ]
        done = recipe_here("refine", *chain)
        assert done.returncode == 0 and "edit_structure: refined 24" in done.stdout, done.stdout + done.stderr
        first, second = server.bodies[0], server.bodies[-1]
        assert (first["seed"], first["temperature"], second["seed"], second["temperature"]) == (
            29,
            0.7,
            5,
            0.1,
        )
        assert [m["role"] for m in first["messages"]] == [
            "system",
            "user",
        ] and "keep their mathematics" in first["messages"][0]["content"]
        before = rows(path / "generate/generations.jsonl")
        asked_for = {
            body["messages"][-1]["content"].partition("Solution:\n")[2] for body in server.bodies[:24]
        }
        assert asked_for == {row["generation"] for row in before}
        again = recipe_here("refine", *chain)
        assert again.stdout.count("done, skipped") == 2 and len(server.bodies) == 48, (
            "nothing is asked for twice"
        )
        other = recipe_here(
            "refine", *chain, "refine.passes=[{prompt: edit_structure},{prompt: self_checks}]"
        )
        assert "[refine/1-edit_structure] done" in other.stdout and len(server.bodies) == 72, (
            "the first pass stays"
        )
    after = rows(path / "refine/2-self_checks/refined.jsonl")
    assert [(r["problem_id"], r["sample"]) for r in after] == [(r["problem_id"], r["sample"]) for r in before]
    assert after[0]["generation"] == before[0]["generation"].upper().replace("BOXED", "boxed").strip()
    assert [step.get("refined_by") for step in after[0]["lineage"]] == [None, "edit_structure", "self_checks"]
    replies = rows(path / "refine/1-edit_structure/generations.jsonl")
    assert (
        replies[0]["generation"].startswith("Here it is") and before[0]["generation"] in replies[0]["problem"]
    ), "each pass is kept"
    assert json.loads((path / "refine/1-edit_structure/outcomes.json").read_text()) == {"refined": 24}
    run_stages([*chain, "refine.passes=[{prompt: edit_structure},{prompt: self_checks}]"], "grade")
    graded = rows(path / "grade/graded.jsonl")
    assert graded[0]["generation"] == after[0]["generation"] and graded[0]["verdict"]


def test_the_next_pass_sees_what_the_rules_left(run):
    """A server that changes every third answer, cuts every fourth, says nothing to every fifth."""
    path, overrides = run
    with scripted(
        say=lambda body: "" if len(body["messages"][-1]["content"]) % 5 == 0 else "Now \\boxed{12345}"
    ) as server:
        chain = [
            *overrides,
            *over(server, "{prompt: paraphrase, changed: drop}", "{prompt: paraphrase, changed: keep}"),
        ]
        done = recipe_here("refine", *chain)
    assert done.returncode == 0, done.stderr
    counts = json.loads((path / "refine/1-paraphrase/outcomes.json").read_text())
    assert set(counts) == {"changed: dropped", "empty: reverted"} and sum(counts.values()) == 24
    left = rows(path / "refine/1-paraphrase/refined.jsonl")
    assert len(left) == counts["empty: reverted"] and sum(
        json.loads((path / "refine/2-paraphrase/outcomes.json").read_text()).values()
    ) == len(left)
    before = {
        (r["problem_id"], r["sample"]): r["generation"] for r in rows(path / "generate/generations.jsonl")
    }
    assert all(before[r["problem_id"], r["sample"]] == r["generation"] for r in left)


def test_a_pass_that_loses_every_trace_is_one_line(run):
    _, overrides = run
    with scripted(say=lambda body: "") as server:
        done = recipe_here("refine", *overrides, *over(server, "{prompt: paraphrase, empty: drop}"))
    one_error(done, "refine/1-paraphrase", "every trace was dropped (empty: dropped 24)", "revert")


BAD = {
    "broken": ([Raw(b"{", 200)] * 40, "problem chain_sum", 3),
    "busy": ([Raw(b"{}", 503)] * 80, "503", 3),
    "refusing": ([Raw(b'{"error": {"message": "no such model"}}', 404)] * 40, "no such model", 2),
    "miscounting": ([Raw(json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
                                     "usage": {"completion_tokens": 10**6}}).encode())] * 40, "completion_tokens", 2),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_faulty_server_is_one_line_and_the_pass_resumes(fault, run):
    path, overrides = run
    replies, said, code = BAD[fault]
    with scripted(say=shout) as server:
        chain = [
            *overrides,
            *over(server, "{prompt: edit_structure}"),
            "refine.engine.max_concurrent_requests=1",
        ]
        server.replies = []
        good = iter(range(5))
        server.say = lambda body: (
            shout(body) if next(good, None) is not None else server.replies.extend(replies) or shout(body)
        )
        failed = recipe_here("refine", *chain)
        one_error(failed, said, code=code)
        assert not (path / "refine/1-edit_structure").exists()
        server.replies, server.say, asked_before = [], shout, len(server.bodies)
        done = recipe_here("refine", *chain)
        assert (
            done.returncode == 0 and "resumes" in done.stdout and len(server.bodies) - asked_before <= 24 - 5
        )
    assert len(rows(path / "refine/1-edit_structure/refined.jsonl")) == 24


def test_the_embedded_engine_with_a_real_model(run):
    """The tiny model goes on with rubbish behind the first half of each thought."""
    path, overrides = run
    before = rows(path / "generate/generations.jsonl")
    passes = ["refine.passes=[{prompt: continue, beginning: 0.5, changed: keep, cut: keep}]", "refine.sampling.max_new_tokens=5", "refine.sampling.precision=fp32", "refine.sampling.batch_size=5"]  # fmt: skip
    done = recipe_here("refine", *overrides, *passes)
    assert done.returncode == 0, done.stderr
    after = rows(path / "refine/1-continue/refined.jsonl")
    assert len(after) == 24
    for row, old in zip(after, before):
        start = begun(old["generation"], 0.5, marks())
        assert row["generation"].startswith(start) and row["generation"] != old["generation"]
        assert bool(start) == ("\n" in old["generation"]), "of a bare box there is no beginning"
    assert {a["finish_reason"] for a in after} <= {"length", "stop"}
    replies = rows(path / "refine/1-continue/generations.jsonl")
    assert all(r["num_generated_tokens"] <= 5 for r in replies)
