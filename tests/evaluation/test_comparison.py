"""Runs compared in pairs: what is refused, what is warned of, and that the figures are those of the runs."""

import random
from string import ascii_uppercase

import pytest

from nemo_cot.errors import UserError
from nemo_cot.evaluation.comparison import Comparison, compare, compare_sets
from nemo_cot.evaluation.graded_runs import GradedRun, GradedSample
from nemo_cot.evaluation.measures import COMPARED
from nemo_cot.report.comparison_text import comparison_builtins, comparison_markdown, comparison_text
from tests.grading.shared_data import comp_math

SETTINGS = {"sampling.temperature": 0.7, "model.prompt": "{problem}"}


def run(label, chance=0.5, *, seed=0, problems=40, samples=4, settings=SETTINGS, stale=False, grader="1", **fields):
    """Graded samples, right with ``chance`` more or less, by problem."""
    draw, hard = random.Random(seed), random.Random(99)
    rows = []
    for p in range(problems):
        ease = hard.random() - 0.5
        for s in range(samples):
            right = draw.random() < chance + ease
            answer = "1" if right else draw.choice([None, "2", "02", "3"])
            rows.append(row(f"p{p}", s, right, answer, boxed=draw.random() < 0.8, grader=grader, **fields))
    return GradedRun(label, rows, settings, stale)


def row(name, sample, right, answer, *, boxed=True, grader="1", **changes):
    fields = {
        "problem_id": name, "sample": sample, "problem": f"What is {name}?", "expected_answer": "1",
        "num_generated_tokens": 5, "finish_reason": "stop", "predicted_answer": answer,
        "answer_source": ("boxed" if boxed else "phrase") if answer else None,
        "verdict": "right" if right else "wrong", "symbolic_correct": right, "nemo_skills_answer": answer,
        "grader_version": grader,
    }  # fmt: skip
    return GradedSample(**{**fields, **changes})


def test_differences_are_to_the_first_run_and_paired():
    found = compare([run("a", 0.4, seed=1), run("b", 0.7, seed=2), run("c", 0.4, seed=3)], resamples=2000)
    a, b, c = found.runs
    assert a.minus_first is None and found.k == 4 and found.warnings == []
    for other in (b, c):
        for key in COMPARED:
            gain = other.figures[key].value - a.figures[key].value
            assert other.minus_first[key].value == pytest.approx(gain)
            assert other.minus_first[key].low <= gain <= other.minus_first[key].high
    lenient = b.minus_first["lenient"]
    assert lenient.low > 0 and lenient.p_value < 0.01 < c.minus_first["lenient"].p_value
    widths = [r.figures["lenient"].high - r.figures["lenient"].low for r in (a, b)]
    assert lenient.high - lenient.low < min(widths), "problems of different ease cancel in pairs"


def test_problems_are_matched_by_id_in_any_order():
    first, second = run("a", seed=1), run("b", seed=1)
    backwards = GradedRun("b", second.rows[::-1], SETTINGS, False)
    for key, change in compare([first, backwards], resamples=200).runs[1].minus_first.items():
        assert (change.value, change.p_value) == (0, 1) and change.low == -change.high, key


@pytest.mark.parametrize("change, told", [
    (lambda rows: rows[4:], "1 only in a (p0)"),
    (lambda rows: [*rows, row("new", 0, True, "1")], "1 only in b (new)"),
    (lambda rows: rows[: 4 * 30], "10 only in a (p30, p31, p32, ...)"),
    (lambda rows: [*rows[:-4], *(row("p39", s, True, "1", problem="Else?") for s in range(4))], "1 with another text (p39)"),
    (lambda rows: [*rows[:-4], *(row("p39", s, True, "1", expected_answer="7") for s in range(4))], "1 with another expected answer (p39)"),
])  # fmt: skip
def test_runs_over_other_problems_are_refused(change, told):
    other = GradedRun("b", change(run("b").rows), SETTINGS, False)
    with pytest.raises(UserError) as error:
        compare([run("a"), other])
    assert told in error.value.what and error.value.where == "a and b" and "same problems" in error.value.fix


def test_what_is_not_alike_is_warned_of():
    hotter = {**SETTINGS, "sampling.temperature": 1.0}
    other = run("b", samples=3, settings=hotter, stale=True, grader="2")
    found = compare([run("a"), other], resamples=100)
    assert found.k == 3 and [r.samples for r in found.runs] == [(4, 4), (3, 3)]
    assert found.warnings == [
        "b: its samples changed after they were scored; run evaluate again",
        "grader versions differ; grade all with one version: 1 (a), 2 (b)",
        "samples per problem differ: 4 (a), 3 (b); maj@3 takes the first 3, pass@1 all of them",
        "sampling differs in sampling.temperature: 0.7 (a), 1.0 (b)",
    ]
    assert compare([run("a"), run("b", settings=None)], resamples=100).warnings == [
        "no manifest records the sampling of b"
    ]


def papers(label: str) -> GradedRun:
    rows = [
        row(p["id"], s, s == 0, str(s), problem=p["problem"], expected_answer=p["expected_answer"],
            subset_for_metrics=p["subset_for_metrics"])
        for p in comp_math() for s in range(2)
    ]  # fmt: skip
    return GradedRun(label, rows, SETTINGS, False)


def test_runs_with_the_same_setting_are_named_together():
    settings = [{"prompt": "x" * 200 + end} for end in "aaaaab"]
    runs = [run(name, seed=1, settings=own) for name, own in zip("pqrstu", settings)]
    [told] = [line for line in compare(runs, resamples=100).warnings if "differs in" in line]
    assert told.count("xxx...") == 2 and "(p, q, r, ...)" in told and told.endswith("(u)")


def test_the_papers_rows_stand_beside_its_own_benchmark_only():
    own, other = (compare([make("a"), make("b")], resamples=100) for make in (papers, run))
    assert own.papers_benchmark and own.problems == 256 and not other.papers_benchmark
    for write in (comparison_text, lambda found: comparison_markdown([found])):
        assert "17.10 %" in write(own) and "11.72 %" in write(own) and "17.10 %" not in write(other)
    assert len(comparison_builtins(own)["paper"]) == 2 and comparison_builtins(other)["paper"] == []


def hostile() -> Comparison:
    return compare(
        [run("a\x1b[31m|<b>"), run("b", settings={"model.prompt": "x\n# <script>"})], resamples=100
    )


def test_text_and_markdown_hold_every_figure_and_nothing_active():
    found = hostile()
    text, markdown = comparison_text(found), comparison_markdown([found])
    assert "\x1b" not in text + markdown and "<b>" not in markdown and "\n# " not in markdown
    table = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(table) == 1 + 2 * len(COMPARED) and all(line.count(" | ") == 4 for line in table)
    strict = found.runs[1].minus_first["strict"]
    for page in (text, markdown):
        assert f"{100 * strict.value:+.1f} [" in page and "pass@1, strict" in page and "p = " in page
    assert "p < 0.02" in comparison_text(compare([run("a", -1.0), run("b", 2.0)], resamples=100))


# ---- further held-out sets


def test_sets_are_compared_each_by_itself_and_one_with_other_problems_is_left_out():
    read = {
        "": [run("a", 0.4, seed=1), run("b", 0.7, seed=2)],
        "four": [run("a", 0.6, seed=3, problems=20, samples=2), run("b", 0.3, seed=4, problems=20, samples=2)],
        "odd": [run("a", problems=5), run("b", problems=6)],
    }
    found = compare_sets(read.__getitem__, list(read), resamples=500)
    assert list(found) == ["", "four"] and found["four"].set == "four" and found["four"].problems == 20
    assert found[""].warnings == ["the set odd is left out: the problems differ: 1 only in b (p5)"]
    for name in found:
        alone = compare(read[name], resamples=500, name=name)
        assert [r.figures for r in found[name].runs] == [r.figures for r in alone.runs]
    assert found[""].runs[1].minus_first["lenient"].low > 0 > found["four"].runs[1].minus_first["lenient"].high
    with pytest.raises(UserError, match="the problems differ"):
        compare_sets(read.__getitem__, ["odd", "four"], resamples=100)


def choice(*numbers):
    """A problem per number of options."""
    return [
        row(f"p{p}", s, s == 0, "A", scorer="choice", scorer_data={"options": dict.fromkeys(ascii_uppercase[:number], "text")})
        for p, number in enumerate(numbers)
        for s in range(3)
    ]


def test_chance_is_the_mean_over_problems_of_one_over_their_options():
    chance = compare([GradedRun(label, choice(4, 2, 10), SETTINGS, False) for label in "ab"], resamples=100)
    assert chance.chance == pytest.approx((1 / 4 + 1 / 2 + 1 / 10) / 3)
    assert "Guessing gives a pass@1 of 28.3 %." in comparison_text(chance) and "28.3 %" in comparison_markdown([chance])
    mixed = [*choice(4), row("q", 0, True, "1")]
    assert compare([GradedRun(label, mixed, SETTINGS, False) for label in "ab"], resamples=100).chance is None
    assert compare([run("a"), run("b")], resamples=100).chance is None
