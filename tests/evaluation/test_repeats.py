"""Repeats: what counts as one, hand-computed components of variance, Holm's correction, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_cot.evaluation.intervals import bootstrap_interval, paired_difference
from nemo_cot.evaluation.metrics import Metric
from nemo_cot.evaluation.repeats import (
    RunMean,
    grouped,
    holm,
    repeated_differences,
    repeated_means,
    sampling_variance,
    variance_components,
)

SOURCES = ("selection", "training", "sampling")
SETTINGS = {"resamples": 4000, "confidence": 0.95, "seed": 0}


@pytest.mark.parametrize(
    ("decides", "expected"),
    [
        ([1, 2, 3], [[0.0, 1.0], [1.0, 1.0], [0.5, 0.0]]), ([1, 1, 2], [[0.5, 1.0], [0.5, 0.0]]), ([2, 1, 2], [[0.25, 0.5], [1.0, 1.0]]),
        ([(), (), ()], [[0.5, 2 / 3]]),
    ],
)  # fmt: skip
def test_repeats_of_the_same_selection_are_one(decides, expected):
    values = np.array([[0.0, 1.0], [1.0, 1.0], [0.5, 0.0]])
    assert grouped(values, decides) == pytest.approx(np.array(expected))


def metric(values, share=True):
    return Metric("m", values, tuple(map(str, range(len(values)))), 0.0, share)


@pytest.mark.parametrize("share", [True, False])
def test_one_repeat_is_that_runs_own_interval(share):
    values = np.random.default_rng(0).random(20)
    [found] = repeated_means([values[None]], share=share, **SETTINGS)
    assert (found.low, found.high) == bootstrap_interval(metric(values, share), **SETTINGS)
    assert found.value == pytest.approx(values.mean())


def test_one_repeat_of_a_pair_is_the_paired_difference():
    draw = np.random.default_rng(0)
    first, second = draw.random((2, 25))
    [found] = repeated_differences([(first[None], second[None])], share=True, **SETTINGS)
    plain = paired_difference(metric(first), metric(second), **SETTINGS)
    assert (found.value, found.low, found.high, found.p_value) == pytest.approx(
        (plain.value, plain.low, plain.high, plain.p_value)
    )


def test_a_difference_that_is_the_same_everywhere_has_the_width_of_a_pairs():
    nothing = np.zeros((2, 30))
    [found] = repeated_differences([(nothing, nothing)], share=True, **SETTINGS)
    plain = paired_difference(metric(nothing[0]), metric(nothing[0]), **SETTINGS)
    assert (found.low, found.high) == (plain.low, plain.high) and plain.high > 0.1
    [tokens] = repeated_differences([(nothing, nothing)], share=False, **SETTINGS)
    assert (tokens.low, tokens.high) == (0.0, 0.0)


def test_luck_of_the_runs_widens_and_equal_runs_do_not():
    base = np.linspace(0.2, 0.8, 40)
    lucky = np.stack([base - 0.15, base, base + 0.15])
    same = np.stack([base, base, base])
    [wide], [narrow] = (repeated_means([v], share=True, **SETTINGS) for v in (lucky, same))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    [one] = repeated_means([base[None]], share=True, **SETTINGS)
    assert (narrow.low, narrow.high) == pytest.approx((one.low, one.high), abs=1e-9)


def test_a_difference_of_shares_lies_within_a_hundred_points():
    """Nearly all against nothing, with luck of the runs beside it."""
    low, high = np.zeros((2, 30)), np.ones((2, 30))
    high[0, :6] = 0.5
    [found] = repeated_differences([(low, high)], share=True, **SETTINGS)
    [back] = repeated_differences([(high, low)], share=True, **SETTINGS)
    assert found.high == 1.0 and back.low == -1.0 and 0 < found.low < found.value


def test_the_variance_between_runs_is_shared_by_the_variants():
    """Two repeats alone say next to nothing of it; ten variants of two say it."""
    draw = np.random.default_rng(0)
    variants = [0.5 + 0.05 * draw.standard_normal((2, 1)) + np.zeros((2, 50)) for _ in range(10)]
    alone = repeated_means(variants[:1], share=True, **SETTINGS)[0]
    among = repeated_means(variants, share=True, **SETTINGS)[0]
    assert among.high - among.low < 0.7 * (alone.high - alone.low)


@pytest.mark.parametrize(("repeats", "student"), [(2, 2.086), (5, 1.990)])  # of 20 and 80 degrees
def test_the_luck_of_a_mean_is_that_of_a_run_over_its_number(repeats, student):
    """40 variants whose runs differ by 5 points: 1.96 x 5 points / sqrt(repeats), beside what 400 equal problems leave."""
    draw = np.random.default_rng(0)
    luck = draw.standard_normal((40, repeats, 1))
    luck = 0.05 * (luck - luck.mean()) / luck.std()
    spread = np.sqrt(np.mean([0.5**2 * np.var(one, ddof=1) for one in luck])) / 0.5
    found = repeated_means([0.5 + one + np.zeros((repeats, 400)) for one in luck], share=True, **SETTINGS)
    error = np.hypot(spread / np.sqrt(repeats), 0.5 / 401)
    assert np.mean([one.high - one.low for one in found]) == pytest.approx(2 * 1.96 * error, rel=0.05)
    sides = [0.5 + one + np.zeros((repeats, 400)) for one in luck]
    changes = repeated_differences([*zip(sides[::2], sides[1::2])], share=True, **SETTINGS)
    spread = np.sqrt(np.mean([np.var(other - one, ddof=1) for one, other in zip(luck[::2], luck[1::2])]))
    width = 2 * student * spread / np.sqrt(repeats)
    assert np.mean([one.high - one.low for one in changes]) == pytest.approx(width, rel=0.05)


def test_the_luck_of_the_baselines_runs_counts_once():
    """One of 18 variants has runs that differ: whether that is the baseline, or another, says the same about all."""
    calm, lucky = np.full((2, 400), 0.5), np.array([[0.4], [0.6]]) + np.zeros((2, 400))
    of_baseline = repeated_differences([(lucky, calm)] * 17, share=True, **SETTINGS)
    of_another = repeated_differences([(calm, lucky), *[(calm, calm)] * 16], share=True, **SETTINGS)
    assert of_baseline[5].detectable == pytest.approx(of_another[5].detectable, rel=1e-6)
    assert of_baseline[5].detectable > 0.05


def test_models_without_luck_do_not_calm_the_others():
    """Untrained models beside trained ones: the luck of a run stays what the trained ones show."""
    draw = np.random.default_rng(0)
    base, *trained = 0.5 + 0.05 * draw.standard_normal((13, 2, 1)) + np.zeros((13, 2, 400))
    pairs = [(base, one) for one in trained]
    alone = repeated_differences(pairs, share=True, **SETTINGS)
    calm = [(base, np.full((2, 400), mean)) for mean in (0.3, 0.4, 0.5)]
    sides = [(True, True)] * len(pairs) + [(True, False)] * len(calm)
    beside = repeated_differences([*pairs, *calm], lucky=sides, share=True, **SETTINGS)
    assert (beside[0].high - beside[0].low) == pytest.approx(alone[0].high - alone[0].low, rel=0.15)
    assert (beside[-1].high - beside[-1].low) == pytest.approx((beside[0].high - beside[0].low) / np.sqrt(2), rel=0.15)
    once = repeated_differences([*pairs, calm[0]], lucky=sides[:-2], share=True, **SETTINGS)
    assert beside[0].low == pytest.approx(once[0].low, abs=0.002), "the second such model shows the same luck of the baseline"


def test_two_baselines_of_different_repeats():
    """A variant that lacks a repeat has a baseline of its own; what it adds is not lost."""
    draw = np.random.default_rng(0)
    base, one, other = 0.5 + 0.05 * draw.standard_normal((3, 3, 1)) + np.zeros((3, 3, 50))
    found = repeated_differences([(base, one), (base[:2], other[:2])], share=True, **SETTINGS)
    alone = repeated_differences([(base, one)], share=True, **SETTINGS)
    assert [f.value for f in found] == pytest.approx([(one - base).mean(), (other - base)[:2].mean()])
    assert 0 < found[0].detectable != alone[0].detectable


def test_luck_is_in_relation_to_what_both_sides_leave_room_for():
    """Of a variant near the end, p (1 - p) is 0.0475 in place of 0.25; the baseline's 0.25 is in both differences."""
    draw = np.random.default_rng(0)
    pairs = []
    for rate in (0.5, 0.95) * 20:
        luck = 0.02 * draw.standard_normal((2, 2, 1))
        pairs.append(tuple(centre + one + np.zeros((2, 400)) for centre, one in zip((0.5, rate), luck)))
    found = repeated_differences(pairs, share=True, **SETTINGS)
    middle, end = (np.mean([one.high - one.low for one in found[place::2]]) for place in (0, 1))
    assert end / middle == pytest.approx(np.sqrt((0.25 + 0.0475) / 0.5), rel=0.03)


def test_a_p_value_that_the_draws_cannot_show_is_no_zero():
    """None of 4,000 draws lies below zero: less than 2 / 4,000, and ten of them stay ten times that by Holm."""
    pair = (np.linspace(0, 0.1, 50)[None], np.linspace(0.8, 1, 50)[None])
    found = repeated_differences([pair] * 10, share=True, **SETTINGS)
    assert {one.p_value for one in found} == {2 / 4000}
    assert min(holm([one.p_value for one in found])) == 10 * 2 / 4000


def test_detectable_is_the_difference_that_would_have_been_seen():
    """With a standard error of s: (1.96 + 0.84) s for one comparison, more after a correction for ten."""
    draw = np.random.default_rng(0)
    first = np.full((1, 400), 0.5)
    changes = [np.clip(first + 0.2 * draw.standard_normal((1, 400)), 0, 1) for _ in range(10)]
    error = np.std(changes[0] - first) / 20
    [one] = repeated_differences([(first, changes[0])], share=True, **SETTINGS)
    assert one.detectable == pytest.approx((1.96 + 0.84) * error, rel=0.06)
    ten = repeated_differences([(first, c) for c in changes], share=True, **SETTINGS)
    assert ten[0].detectable == pytest.approx((2.81 + 0.84) * error, rel=0.06)


def test_holms_procedure_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 = 0.06, and 0.04 x 1, which may not fall below it."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == [] and holm([0.7]) == [0.7] and holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_plain_and_bonferroni(p_values):
    found = holm(p_values)
    for p, corrected in zip(p_values, found):
        assert p <= corrected <= min(1.0, len(p_values) * p) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(found)[order]) == sorted(found)


def runs(means, seeds, sampling=None):
    return [RunMean(mean, seed, sampling) for mean, seed in zip(means, seeds)]


def test_components_of_a_balanced_design_by_hand():
    """Selections 1 and 2 with two trainings each: 0.1, 0.3 and 0.5, 0.7. Within: 0.02 (variance of two 0.2 apart).
    Between means 0.2 and 0.6: 0.08, of which 0.02 / 2 is training's.
    """
    seeds = [(1, 1, 9), (1, 2, 9), (2, 1, 9), (2, 2, 9)]
    found = variance_components([runs([0.1, 0.3, 0.5, 0.7], seeds)], SOURCES)
    assert found == pytest.approx({"training": 0.02, "selection": 0.07})


def test_known_sampling_is_taken_out_of_the_innermost():
    seeds = [(1, 1, 9), (1, 2, 9), (2, 1, 9), (2, 2, 9)]
    found = variance_components([runs([0.1, 0.3, 0.5, 0.7], seeds, 0.005)], SOURCES)
    assert found == pytest.approx({"selection": 0.07, "training": 0.015, "sampling": 0.005})


def test_seeds_that_vary_together_cannot_be_told_apart():
    seeds = [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    found = variance_components([runs([0.1, 0.2, 0.3], seeds)], SOURCES)
    assert found == pytest.approx({"selection + training + sampling": 0.01})
    found = variance_components([runs([0.1, 0.2, 0.3], seeds, 0.002)], SOURCES)
    assert found == pytest.approx({"selection + training": 0.008, "sampling": 0.002})


def test_variants_are_pooled_not_mixed():
    """The difference between variants is no variance of runs."""
    seeds = [(1, 1, 1), (1, 2, 1)]
    found = variance_components([runs([0.1, 0.2], seeds), runs([0.8, 0.9], seeds)], SOURCES)
    assert found == pytest.approx({"training": 0.005})
    assert variance_components([runs([0.1], [(1, 1, 1)])], SOURCES) == {}


def test_components_of_an_unbalanced_design_by_hand():
    """Selection 1 has two trainings, 0.1 and 0.3, selection 2 one, 0.6. Within: 0.02. Between means 0.2 and 0.6: 0.08, of
    which the mean of 0.02 / 2 and 0.02 / 1 is training's.
    """
    found = variance_components([runs([0.1, 0.3, 0.6], [(1, 1, 9), (1, 2, 9), (2, 1, 9)])], SOURCES)
    assert found == pytest.approx({"training": 0.02, "selection": 0.065})


def test_sampling_variance_of_a_mean():
    """Two problems of 5 samples, 2 of 5 and none right: 0.4 x 0.6 / 4 over 2 squared."""
    assert sampling_variance(np.array([0.4, 0.0]), np.array([5, 5])) == pytest.approx(0.06 / 4)
    assert np.isnan(sampling_variance(np.array([1.0]), np.array([1])))


@pytest.mark.parametrize("luck", [0.0, 0.6])
def test_differences_of_equal_recipes_cover_zero(luck):
    draw = np.random.default_rng(2)
    covered = []
    for number in range(60):
        base = draw.beta(0.4, 0.6, size=30).clip(1e-6, 1 - 1e-6)
        logit = np.log(base / (1 - base)) + luck * draw.standard_normal((18, 1))
        values = draw.binomial(8, 1 / (1 + np.exp(-logit))) / 8
        sides = np.split(values, 6)
        found = repeated_differences(
            [(sides[0], side) for side in sides[1:]], share=True, resamples=500, confidence=0.95, seed=number
        )
        covered += [one.low <= 0 <= one.high for one in found]
    assert 0.88 <= np.mean(covered) <= 1.0
