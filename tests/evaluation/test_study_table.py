"""The table of a study: a difference is found and none is not, repeats and missing runs are named, text is harmless."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from nemo_cot.errors import UserError
from nemo_cot.evaluation.measures import readings
from nemo_cot.evaluation.metrics import pass_at_1
from nemo_cot.evaluation.repeats import repeated_differences, repeated_means
from nemo_cot.evaluation.study_table import Repeat, study_table
from nemo_cot.report.study_page import study_headline
from nemo_cot.report.study_text import study_markdown, study_notes, study_terminal
from tests.evaluation.test_comparison import run

SEEDS = ({"selection": 1, "sampling": 1}, {"selection": 1, "sampling": 2}, {"selection": 2, "sampling": 1})


def repeats(variant, chance, seed, count=3, **options):
    return [
        Repeat(variant, f"{variant}.{n}", SEEDS[n], lambda n=n: run(f"{variant}.{n}", chance, seed=seed + n, **options))
        for n in range(count)
    ]


def table(*groups, baseline="plain", subject="trained", missing=None, measures=("lenient", "majority_equivalence"), **more):
    found = [repeat for group in groups for repeat in group]
    names = dict.fromkeys([*(repeat.variant for repeat in found), *(missing or {})])
    return study_table(
        found, study="s", title="", baseline=baseline, subjects=dict.fromkeys(names, subject), measures=measures,
        missing=missing or {}, resamples=2000, confidence=0.95, seed=0, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return table(
        repeats("plain", 0.4, 10), repeats("same", 0.4, 20), repeats("better", 0.75, 30), missing={"gone": ["gone.1"]}
    )


def test_a_difference_is_found_where_there_is_one(found):
    plain, same, better, gone = found.rows
    assert plain.measures["lenient"].minus_baseline is None and plain.repeats == 2 and len(plain.runs) == 3
    change = better.measures["lenient"].minus_baseline
    gain = better.measures["lenient"].value - plain.measures["lenient"].value
    assert change.value == pytest.approx(gain) and change.low > 0.15 and change.p_holm < 0.05
    assert change.p_value <= change.p_holm
    none = same.measures["lenient"].minus_baseline
    assert none.low < 0 < none.high and none.p_holm > 0.05
    assert gone.measures == {} and gone.missing == ["gone.1"] and gone.repeats == 0
    assert found.k == 4 and found.problems == 40


def test_the_variance_has_a_share_for_each_source(found):
    parts = found.variance["lenient"]
    assert set(parts) == {"selection", "sampling", "total"}
    assert parts["selection"] + parts["sampling"] == pytest.approx(1) and 0 < parts["total"] < 0.1
    assert 0 < found.detectable["lenient"] < 0.5


def test_only_repeats_with_the_same_seeds_are_paired():
    lacking = table(repeats("plain", 0.4, 10, 2), repeats("other", 0.4, 20)[2:])
    assert lacking.rows[1].measures["lenient"].minus_baseline is None
    both = table(repeats("plain", 0.4, 10), repeats("other", 0.4, 20)[1:])
    own = [run("x", 0.4, seed=10 + n) for n in (1, 2)]
    assert both.rows[1].measures["lenient"].minus_baseline.value == pytest.approx(
        both.rows[1].measures["lenient"].value
        - sum(sum(r.verdict == "right" for r in one.rows) / len(one.rows) for one in own) / 2
    )


def test_pairs_are_made_by_seeds_and_problems_in_whatever_order_runs_and_rows_stand():
    plain, other = repeats("plain", 0.4, 10), repeats("other", 0.6, 20)
    expected = table(plain, other)

    def backwards(repeat):
        return replace(repeat, read=lambda: replace(one := repeat.read(), rows=one.rows[::-1]))

    mixed = table(plain, [backwards(repeat) for repeat in other[::-1]])
    for measure, cell in expected.rows[1].measures.items():
        ours, theirs = cell.minus_baseline, mixed.rows[1].measures[measure].minus_baseline
        assert [theirs.value, theirs.low, theirs.high, theirs.p_holm] == pytest.approx(
            [ours.value, ours.low, ours.high, ours.p_holm], abs=1e-9
        )


def test_a_variant_that_lacks_a_selection_does_not_count_its_trainings_instead():
    seeds = [{"selection": s, "training": t} for s in (1, 2) for t in (1, 2)]

    def variant(name, seed, places):
        return [Repeat(name, f"{name}.{n}", seeds[n], lambda n=n: run(f"{name}.{n}", 0.4, seed=seed + n)) for n in places]

    found = table(variant("plain", 10, range(4)), variant("lacking", 20, (0, 1)), variant("whole", 30, range(4)))
    assert [row.repeats for row in found.rows] == [2, 1, 2] and found.repeated_over == ["selection", "training"]
    runs = [[pass_at_1(readings(run("x", 0.4, seed=seed + n).rows).lenient).per_problem for n in range(4)] for seed in (10, 20, 30)]
    plain, lacking, whole = (np.stack(one).reshape(2, 2, -1).mean(axis=1) for one in runs)
    expected = repeated_means([plain, lacking[:1], whole], share=True, resamples=2000, confidence=0.95, seed=0)
    cells = [row.measures["lenient"] for row in found.rows]
    assert [c.low for c in cells] == pytest.approx([one.low for one in expected])
    assert [c.high for c in cells] == pytest.approx([one.high for one in expected])
    assert table(variant("plain", 10, (0, 1)), variant("o", 20, (0, 1))).rows[0].repeats == 2, "training is all that varies"


def test_the_votes_of_all_are_counted_over_the_fewest_samples():
    found = table(repeats("plain", 0.4, 10), repeats("few", 0.4, 20, samples=2), measures=("pass_at_k",))
    assert found.k == 2 and "samples per problem differ" in " ".join(found.warnings)
    alone = table(repeats("plain", 0.4, 10), measures=("pass_at_k",))
    assert found.rows[0].measures["pass_at_k"].value < alone.rows[0].measures["pass_at_k"].value


def test_detectable_is_that_of_the_variant_in_the_middle():
    found = table(repeats("plain", 0.4, 10), *(repeats(f"v{n}", 0.1 + 0.3 * n, 20 + 10 * n) for n in range(3)))
    own = sorted(row.measures["lenient"].minus_baseline.detectable for row in found.rows[1:])
    assert own[0] < own[1] < own[2] and found.detectable["lenient"] == own[1]


def test_only_means_over_samples_know_their_sampling_from_one_run():
    seeds = [{"selection": n} for n in range(3)]
    runs = [
        [Repeat(v, f"{v}.{n}", seeds[n], lambda n=n, s=s: run(f"x{n}", 0.2 + 0.2 * n, seed=s + n)) for n in range(3)]
        for v, s in (("plain", 10), ("other", 20))
    ]
    found = table(*runs, measures=("lenient", "pass_at_k"))
    assert found.variance["lenient"].keys() == {"selection", "sampling", "total"}
    assert found.variance["pass_at_k"].keys() == {"selection", "total"}


def test_what_the_table_claims_is_what_the_repeats_show(found):
    notes = " ".join(study_notes(found))
    assert "The luck of what the repeats vary (selection, sampling) is in the intervals, no other." in notes
    assert "would have been seen here with 80 % chance, a smaller one less often" in notes and "from 9 runs of 3 variants" in notes
    assert "One run of each" not in study_headline(found, "lenient").detail
    once = table(repeats("plain", 0.4, 10, 1), repeats("same", 0.4, 20, 1))
    assert "Every variant ran once: intervals and stars are about these runs." in " ".join(study_notes(once))
    headline = study_headline(once, "lenient")
    assert headline.sentence == "None of 1 variants could be told from plain." and "One run of each" in headline.detail


def test_repeats_that_are_none_are_warned_of():
    same = [Repeat("plain", f"plain.{n}", SEEDS[n], lambda: run("plain", 0.4, seed=1)) for n in range(2)]
    assert "the seed of sampling did not act" in table(same, repeats("o", 0.4, 5)).warnings[0]
    assert table(repeats("plain", 0.4, 1), repeats("o", 0.4, 5)).warnings == []
    selected = [Repeat("plain", f"plain.{n}", {"selection": n}, lambda: run("plain", 0.4, seed=1)) for n in range(2)]
    assert "the seed of selection did not act" in table(selected).warnings[0]


def of_seeds(variant, seeds, chance, seed):
    return [
        Repeat(variant, f"{variant}.{n}", one, lambda n=n: run(f"{variant}.{n}", chance, seed=seed + n))
        for n, one in enumerate(seeds)
    ]


def shares(seed, count, chance):
    return np.stack([pass_at_1(readings(run("x", chance, seed=seed + n).rows).lenient).per_problem for n in range(count)])


SELECTED = [{"selection": s} for s in (1, 2, 3)]
SETTINGS = {"share": True, "resamples": 2000, "confidence": 0.95, "seed": 0}


@pytest.mark.parametrize("baseline", ["plain", "base"])
def test_one_model_is_no_sample_of_luck_and_stands_beside_every_repeat(baseline):
    """Its row has n = 1 and the interval over problems alone; it takes nothing from the luck that the others show."""
    plain, other = of_seeds("plain", SELECTED, 0.4, 10), of_seeds("other", SELECTED, 0.6, 20)
    base = of_seeds("base", [{"selection": None}], 0.2, 30)
    found = table(plain, other, base, baseline=baseline, measures=("lenient",))
    rows = {row.variant: row for row in found.rows}
    assert [rows[n].repeats for n in ("plain", "other", "base")] == [3, 3, 1] and found.one_model == ["base"]
    values = {"plain": shares(10, 3, 0.4), "other": shares(20, 3, 0.6), "base": shares(30, 1, 0.2)}
    cells = {name: row.measures["lenient"] for name, row in rows.items()}
    without = repeated_means([values["plain"], values["other"]], **SETTINGS)
    for name, expected in zip(("plain", "other"), without):
        assert (cells[name].low, cells[name].high) == pytest.approx((expected.low, expected.high))
    [alone] = repeated_means([values["base"]], **SETTINGS)
    assert (cells["base"].low, cells["base"].high) == pytest.approx((alone.low, alone.high))
    beside = {name: np.repeat(value, 3 // len(value), axis=0) for name, value in values.items()}
    compared = [name for name in values if name != baseline]
    changes = repeated_differences(
        [(beside[baseline], beside[name]) for name in compared],
        lucky=[(baseline != "base", name != "base") for name in compared], **SETTINGS,
    )  # fmt: skip
    for name, expected in zip(compared, changes):
        change = cells[name].minus_baseline
        assert change.value == pytest.approx(values[name].mean() - values[baseline].mean()), "of all repeats, not of one"
        assert (change.low, change.high) == pytest.approx((expected.low, expected.high)), "the luck of the others alone"
    same = table(plain, other, baseline="plain", measures=("lenient",))
    assert found.variance == same.variance
    assert "None of it is in base" in " ".join(study_notes(found)) and "None of it" not in " ".join(study_notes(same))


def test_the_luck_of_the_repeats_is_in_a_difference_to_one_model():
    """Two selections that differ much: the interval of their difference to the base has to show it, as two columns would."""
    low, high = of_seeds("plain", SELECTED[:1], 0.15, 10), of_seeds("plain", SELECTED[1:2], 0.85, 11)
    base = of_seeds("base", [{"selection": None}], 0.5, 30)
    lucky = table(low, high, base, measures=("lenient",)).rows[1].measures["lenient"].minus_baseline
    even = table(of_seeds("plain", SELECTED[:2], 0.5, 10), base, measures=("lenient",)).rows[1].measures["lenient"].minus_baseline
    assert lucky.high - lucky.low > 2 * (even.high - even.low)
    back = table(low, high, base, baseline="base", measures=("lenient",)).rows[0].measures["lenient"].minus_baseline
    assert back.high - back.low == pytest.approx(lucky.high - lucky.low, rel=0.15), "whichever of the two is the baseline"


def test_one_model_is_sampled_anew_by_the_seed_that_acts_on_it():
    crossed = [{"selection": s, "sampling": n} for s in (1, 2) for n in (1, 2)]
    plain = of_seeds("plain", crossed, 0.4, 10)
    base = of_seeds("base", [{"selection": None, "sampling": n} for n in (1, 2)], 0.2, 30)
    found = table(plain, base, measures=("lenient",))
    _, row = found.rows
    assert (row.repeats, len(row.runs)) == (1, 2) and found.repeated_over == ["selection", "sampling"]
    expected = shares(30, 2, 0.2).mean() - shares(10, 4, 0.4).mean()
    assert row.measures["lenient"].minus_baseline.value == pytest.approx(expected)
    first = table(plain, base[:1], measures=("lenient",)).rows[1].measures["lenient"]
    expected = shares(30, 1, 0.2).mean() - shares(10, 4, 0.4)[[0, 2]].mean()
    assert first.minus_baseline.value == pytest.approx(expected), "beside the repeats of the same sampling"


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="no run of the baseline"):
        table(repeats("other", 0.4, 1), missing={"plain": ["plain.1"]})
    with pytest.raises(UserError, match="the problems differ"):
        table(repeats("plain", 0.4, 1), repeats("other", 0.4, 1, problems=39))


def test_one_row_per_variant_in_every_format(found):
    markdown, builtins = study_markdown(found), msgspec.json.decode(msgspec.json.encode(found))
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 and lines[4].startswith("| better | 2 |") and "*" in lines[4]
    assert [row["variant"] for row in builtins["rows"]] == ["plain", "same", "better", "gone"]
    assert study_terminal(found).row_count == 4 and any("Holm" in note for note in study_notes(found))


def test_names_are_made_harmless():
    evil = "<script>|x"
    found = table([Repeat(evil, evil, {}, lambda: run("x"))], baseline=evil)
    assert "<script>" not in study_markdown(found)
    assert r"\|x" in study_markdown(found)


# ---- further held-out sets


def on_sets(variant, own, four, seed, **options):
    """Three repeats with other problems, samples and rates on the set four; none of it where ``four`` is None."""

    def reader(n):
        def read(name=""):
            if name and four is None:
                return None
            chance, more = (four, {"problems": 25, "samples": 3}) if name else (own, {})
            return run(f"{variant}.{n}", chance, seed=seed + n + 100 * bool(name), **more, **options)

        return read

    return [Repeat(variant, f"{variant}.{n}", SEEDS[n], reader(n)) for n in range(3)]


def test_a_measure_on_a_set_has_that_sets_problems_and_samples_and_its_own_correction():
    groups = [on_sets("plain", 0.4, 0.8, 10), on_sets("lower", 0.4, 0.35, 20), on_sets("without", 0.45, None, 30)]
    found = table(*groups, measures=("lenient", "four.pass_at_k"))
    assert (found.problems, found.k, found.sets["four"].problems, found.sets["four"].k) == (40, 4, 25, 3)
    _, lower, without = found.rows
    own = table(*groups, measures=("lenient",))
    for row, alone in zip(found.rows, own.rows):
        assert row.measures["lenient"] == alone.measures["lenient"], "a set changes nothing of the runs' own"
    change = lower.measures["four.pass_at_k"].minus_baseline
    assert change.high < 0 and change.p_holm == change.p_value, "one variant is compared on four"
    assert lower.measures["lenient"].minus_baseline.p_holm >= lower.measures["lenient"].minus_baseline.p_value
    assert "four.pass_at_k" not in without.measures and "lenient" in without.measures
    markdown, notes = study_markdown(found), " ".join(study_notes(found))
    assert "| four: pass@3 |" in markdown and "40 problems, 25 of four." in notes and "four: pass@3: a difference of" in notes
    assert "Warning: four: no scores of without.0, without.1, without.2" in notes
    lines = [line for line in markdown.splitlines() if line.startswith("| without")]
    assert lines[0].endswith("| - |")


def test_a_set_that_the_baseline_does_not_have_is_refused():
    with pytest.raises(UserError, match="no run of the baseline plain has scores on four"):
        table(on_sets("plain", 0.4, None, 10), on_sets("other", 0.4, 0.4, 20), measures=("four.lenient",))


def test_what_guessing_gives_stands_below_the_table():
    choice = {"scorer": "choice", "scorer_data": {"options": dict.fromkeys("ABCD", "text")}}
    found = table(on_sets("plain", 0.4, 0.5, 10, **choice), on_sets("o", 0.4, 0.5, 20, **choice), measures=("lenient", "four.lenient"))
    assert (found.chance, found.sets["four"].chance) == (0.25, 0.25)
    assert "four: guessing gives a pass@1 of 25.0 %." in study_notes(found)
