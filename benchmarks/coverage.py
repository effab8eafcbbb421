"""How often the 95 % interval of a share covers the truth, on simulated samples: ours and those it was chosen from.

    python benchmarks/coverage.py [--simulations 2000] [--ours] [--repeats] [--differences]

Each problem has a chance of being solved, drawn from a beta distribution with the stated rate and one of some
spreads (alpha + beta: 0.3, nearly all or nothing; 1; 10, problems alike); its wrong answers share the rest by a Dirichlet
distribution, so that some are popular. pass@1, pass@8, pass@k and maj@k are computed from k samples of n problems;
their truths from a million problems of the same kind (pass@1's is the rate). ``outside``: where the coverage is not
between 92 and 99 %; ``no``: of those, where the truth is so near 0 or 1 that 99 % of the simulations show nothing
else, and every interval that holds what it shows covers more than 99 %.

--ours: ours alone. --repeats: the hierarchical bootstrap over repeats and problems, and its speed and memory.
--differences: that of two models paired by problem, the second the same or better or worse by one in its logit. --seed,
--rates, --spreads: cells that the rule was not chosen on.
"""

from __future__ import annotations

import argparse
import functools
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from machine import describe_machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from nemo_cot.evaluation import repeats
from nemo_cot.evaluation.intervals import bootstrap_intervals, paired_differences, student_t
from nemo_cot.evaluation.metrics import Metric

SIZES = ((30, 8), (30, 64), (256, 64))
RATES = (0.01, 0.02, 0.05, 0.17, 0.4, 0.8)
SPREADS = (0.3, 1.0, 10.0)
WRONG_ANSWERS = 5
DRAWS = 3000
Z = 1.959964
Ends = tuple[np.ndarray, np.ndarray]


def samples(problems: tuple[int, ...], k: int, rate: float, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Right samples of k, and the majority's score, of each problem: arrays of the shape ``problems``."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(rate * spread, (1 - rate) * spread, size=problems)
    wrong = rng.dirichlet([0.5] * WRONG_ANSWERS, size=problems)
    votes = rng.multinomial(k, np.concatenate([chance[..., None], (1 - chance)[..., None] * wrong], -1))
    right, others = votes[..., 0], votes[..., 1:]
    best, ties = others.max(-1), (others == right[..., None]).sum(-1)
    score = np.where(right > best, 1.0, np.where((right == best) & (right > 0), 1 / (1 + ties), 0.0))
    return right, score


def pass_at(right: np.ndarray, n: int, k: int) -> np.ndarray:
    steps = np.arange(k)
    table = 1 - np.prod(np.clip(n - np.arange(n + 1)[:, None] - steps, 0, None) / (n - steps), axis=1)
    return table[right]


@functools.cache
def truths(k: int, rate: float, spread: float) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for part in range(5):
        for name, values in figures(*samples((200_000,), k, rate, spread, 1000 + part), k).items():
            found.setdefault(name, []).append(float(values.mean()))
    return {name: float(np.mean(means)) for name, means in found.items()} | {"pass@1": rate}


def figures(right: np.ndarray, score: np.ndarray, k: int) -> dict[str, np.ndarray]:
    of_8 = {} if k == 8 else {"pass@8": pass_at(right, k, 8)}
    return {"pass@1": right / k, **of_8, f"pass@{k}": pass_at(right, k, k), f"maj@{k}": score}


def ours(values: np.ndarray, k: int) -> Ends:
    names = tuple(map(str, range(values.shape[1])))
    metrics = [Metric("x", row, names, 0.0) for row in values]
    ends = np.array(bootstrap_intervals(metrics, resamples=DRAWS))
    return ends[:, 0], ends[:, 1]


@functools.cache
def resampled(n: int) -> np.ndarray:
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS).T / n


def percentile(values: np.ndarray, k: int) -> Ends:
    """As shipped before."""
    return tuple(np.quantile(values @ resampled(values.shape[1]), [0.025, 0.975], axis=1))


def bca(values: np.ndarray, k: int) -> Ends:
    """Bias-corrected and accelerated (Efron 1987)."""
    n = values.shape[1]
    draws = np.sort(values @ resampled(n), axis=1)
    mean = values.mean(1, keepdims=True)
    below = ((draws < mean).mean(1) + (draws <= mean).mean(1)) / 2
    bias = _normal_quantile(np.clip(below, 1 / DRAWS, 1 - 1 / DRAWS))
    off = mean - values
    skew = (off**3).sum(1) / np.maximum(6 * (off**2).sum(1) ** 1.5, 1e-12)
    ends = []
    for z in (-Z, Z):
        level = _normal(bias + (bias + z) / (1 - skew * (bias + z)))
        place = np.clip((level * DRAWS).astype(int), 0, DRAWS - 1)
        ends.append(np.take_along_axis(draws, place[:, None], 1)[:, 0])
    return ends[0], ends[1]


def bootstrap_t(values: np.ndarray, k: int) -> Ends:
    """Bootstrap-t on the logit scale, with half a right and half a wrong problem added so that it is finite."""
    n = values.shape[1]
    weights = resampled(n)

    def logit_and_error(mean: np.ndarray, square: np.ndarray) -> Ends:
        moved = (mean * n + 0.5) / (n + 1)
        spread = np.sqrt(np.maximum(square - mean**2, 0.25 / n) / (n - 1))
        return np.log(moved / (1 - moved)), spread / (moved * (1 - moved))

    centre, error = logit_and_error(values.mean(1), (values**2).mean(1))
    drawn, drawn_error = logit_and_error(values @ weights, values**2 @ weights)
    low, high = np.quantile((drawn - centre[:, None]) / drawn_error, [0.025, 0.975], axis=1)
    return tuple(1 / (1 + np.exp(-(centre - t * error))) for t in (high, low))


def wilson(values: np.ndarray, k: int) -> Ends:
    """Wilson's score interval with an effective number of problems: n over the design effect, which is drawn to 1."""
    n, mean = values.shape[1], values.mean(1)
    effect = (values.var(1) * n + 0.25) / (n * mean * (1 - mean) + 0.25)
    size = (n - 1) / np.minimum(effect, 1)
    z = student_t(Z, n - 1)
    centre = (mean + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * np.sqrt(mean * (1 - mean) / size + (z / (2 * size)) ** 2) / (1 + z**2 / size)
    return centre - half, centre + half


def beta_binomial(values: np.ndarray, k: int) -> Ends:
    """Posterior of the mean of a beta-binomial with Jeffreys' prior on the mean and a flat one on the correlation.

    pass@k and maj@k are rounded to all or nothing out of one.
    """
    whole = np.allclose(values * k, np.round(values * k)) and len(np.unique(values)) > 3
    trials = k if whole else 1
    counts = np.round(values * trials).astype(int)
    table = np.stack([(counts == c).sum(1) for c in range(trials + 1)], axis=1)
    means, likelihood = _beta_binomial_grid(trials)
    posterior = table @ likelihood
    posterior = np.exp(posterior - posterior.max(1, keepdims=True)).reshape(len(values), len(means), -1).sum(2)
    cumulated = np.cumsum(posterior, axis=1)
    cumulated /= cumulated[:, -1:]
    return tuple(means[(cumulated < q).sum(1).clip(0, len(means) - 1)] for q in (0.025, 0.975))


@functools.cache
def _beta_binomial_grid(trials: int) -> Ends:
    means = np.sin(np.linspace(0.0005, 1, 400, endpoint=False) * np.pi / 2) ** 2  # Jeffreys' prior is flat here
    correlations = np.linspace(0.02, 0.98, 25)
    lgamma = np.vectorize(math.lgamma)
    mean, correlation = (grid.ravel() for grid in np.meshgrid(means, correlations, indexing="ij"))
    a, b = mean * (1 / correlation - 1), (1 - mean) * (1 / correlation - 1)
    of_parts = lgamma(a + b) - lgamma(a) - lgamma(b) - lgamma(a + b + trials)
    return means, np.stack([lgamma(a + c) + lgamma(b + trials - c) + of_parts for c in range(trials + 1)])


def _normal(z: np.ndarray) -> np.ndarray:
    return np.interp(z, _GRID, _LEVELS)


def _normal_quantile(level: np.ndarray) -> np.ndarray:
    return np.interp(level, _LEVELS, _GRID)


_GRID = np.linspace(-8, 8, 4001)
_LEVELS = np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in _GRID])

METHODS: dict[str, Callable[[np.ndarray, int], Ends]] = {
    "ours": ours, "percentile": percentile, "BCa": bca, "bootstrap-t": bootstrap_t, "Wilson": wilson,
    "beta-binomial": beta_binomial,
}  # fmt: skip


def print_coverage(
    simulations: int,
    methods: dict[str, Callable[[np.ndarray, int], Ends]],
    seed: int,
    rates: Sequence[float],
    spreads: Sequence[float],
) -> None:
    print("  n  k spread rate  figure   truth   " + "  ".join(f"{m:>13}" for m in methods) + "  (coverage, mean width)")
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in methods}
    for n, k in SIZES:
        for spread in spreads:
            for rate in rates:
                right, score = samples((simulations, n), k, rate, spread, seed)
                for name, values in figures(right, score, k).items():
                    truth = truths(k, rate, spread)[name]
                    shown = [(values == end).all(1).mean() for end in (0, 1)]
                    trivial = max(shown) > 0.99 or truth in (0, 1)
                    cells = []
                    for method, interval in methods.items():
                        low, high = interval(values, k)
                        covered = float(((low <= truth) & (truth <= high)).mean())
                        found[method].append((covered, trivial))
                        cells.append(f"{100 * covered:5.1f}  {np.mean(high - low):.4f}")
                    print(f"{n:3} {k:2} {spread:6} {rate:4}  {name:7} {truth:.5f}  {'  '.join(cells)}", flush=True)
    for method, cells in found.items():
        real = [covered for covered, trivial in cells if not trivial]
        outside = sum(not 0.92 <= covered <= 0.99 for covered in real)
        print(
            f"{method}: {outside} of {len(real)} cells outside of 92 to 99 %, lowest {100 * min(real):.1f}, "
            f"highest {100 * max(real):.1f}; no: {len(cells) - len(real)}"
        )


def chances(rng: np.random.Generator, problems: int, rate: float, spread: float, shifts: np.ndarray) -> np.ndarray:
    """The chance of each of some models on the same problems, float [models, problems]: logits that differ by ``shifts``
    [models, 1] and, per model and problem, by a normal number of 0.3.
    """
    base = np.clip(rng.beta(rate * spread, (1 - rate) * spread, size=(1, problems)), 1e-9, 1 - 1e-9)
    logit = np.log(base / (1 - base)) + shifts
    return 1 / (1 + np.exp(-(logit + 0.3 * rng.standard_normal((len(shifts), problems)))))


def print_differences(simulations: int, seed: int, rates: Sequence[float], spreads: Sequence[float]) -> None:
    print("coverage of the difference of two models, paired by problem; its truth")
    rng, found = np.random.default_rng(seed), {}
    for n, k in SIZES:
        for rate in rates:
            for spread in spreads:
                for shift in (0.0, 1.0, -1.0):
                    shifts = np.array([[0.0], [shift]])
                    known = chances(rng, 1_000_000, rate, spread, shifts)
                    right = rng.binomial(k, chances(rng, simulations * n, rate, spread, shifts))
                    for name, power in (("pass@1", 1), (f"pass@{k}", k)):
                        # Two models that are alike differ by nothing, not by what a million problems show.
                        truth = float(np.diff((1 - (1 - known) ** power).mean(axis=1))[0]) if shift else 0.0
                        values = (right / k if power == 1 else right > 0).astype(float).reshape(2, simulations, n)
                        problems = tuple(map(str, range(n)))
                        pairs = [tuple(Metric("x", side, problems, 0.0) for side in both) for both in values.swapaxes(0, 1)]
                        changes = paired_differences(pairs, resamples=DRAWS)
                        covered = np.mean([change.low <= truth <= change.high for change in changes])
                        trivial = (np.ptp(values, axis=(0, 2)) == 0).mean() > 0.99  # nothing else than all or nothing right
                        if not trivial:
                            size = n, k, name, "more than 5 %" if rate > 0.05 else "up to 5 %", bool(shift)
                            found.setdefault(size, []).append(float(covered))
                        print(f"{n:3} {k:2} {spread:6} {rate:4}  {name:7} {100 * truth:+6.2f} points {100 * covered:5.1f} %", flush=True)
    for (n, k, name, rates_of, differing), cells in sorted(found.items()):
        which = "other than 0" if differing else "of 0"
        print(
            f"{n} x {k}, {name}, rates {rates_of}, differences {which}: {100 * min(cells):.1f} to {100 * max(cells):.1f} %, "
            f"mean {100 * np.mean(cells):.1f} %, below 92 % in {sum(c < 0.92 for c in cells)} of {len(cells)} cells"
        )


def print_repeats(simulations: int, seed: int) -> None:
    """Coverage of the hierarchical bootstrap, 1 to 5 repeats, and its speed at the size of a real study."""
    print(
        "hierarchical bootstrap: coverage of ten variants' rates, and of nine differences of 0 to the baseline; studies in which "
        "one of the nine has a p-value below 0.05 after Holm's correction; coverage of one model's rate beside them, and of its difference"
    )
    for count, n, k in ((1, 30, 8), (2, 30, 8), (3, 30, 8), (3, 256, 64), (5, 256, 64)):
        for rate in (0.05, 0.4):
            for luck in (0.0, 0.2, 0.6):
                cell = _repeats_cell(simulations // 10, count, n, k, rate, luck, seed)
                print(f"{count} repeats, {n} x {k}, rate {rate}, sd of a run's logit {luck}: {cell}", flush=True)
    variants = np.random.default_rng(0).random((20, 3, 256, 64)) < 0.3
    started = time.perf_counter()
    values = [variant.mean(axis=2) for variant in variants]
    settings = {"resamples": 10_000, "confidence": 0.95, "seed": 0}
    repeats.repeated_means(values, share=True, **settings)
    repeats.repeated_differences([(values[0], v) for v in values[1:]], share=True, **settings)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"20 variants x 3 repeats x 256 problems x 64 samples, 10,000 resamples: {seconds:.2f} s, {memory:.2f} GiB at most")


def _repeats_cell(simulations: int, count: int, n: int, k: int, rate: float, luck: float, seed: int) -> str:
    rng = np.random.default_rng(seed)
    lucks = np.array([luck] * 10 * count + [0.0])[:, None]  # the last is one model, which no seed changes

    def drawn(problems: int) -> np.ndarray:
        return chances(rng, problems, rate, 1.0, lucks * rng.standard_normal(lucks.shape))

    means = np.mean([drawn(1000).mean(axis=1) for _ in range(40_000 // len(lucks))], axis=0)
    truth, of_one = means[:-1].mean(), means[-1]
    gap = of_one - truth if luck else 0.0  # without luck it is like the others
    covered, equal, starred, alone = [], [], [], []
    settings = {"share": True, "resamples": 1000, "confidence": 0.95}
    lucky = [True] * 10 + [False]
    for number in range(simulations):
        values = rng.binomial(k, drawn(n)) / k
        variants = [*np.split(values[:-1], 10), values[-1:]]
        found = repeats.repeated_means(variants, lucky=lucky, seed=number, **settings)
        pairs = [(variants[0], np.broadcast_to(v, variants[0].shape)) for v in variants[1:]]
        sides = [(True, has_luck) for has_luck in lucky[1:]]
        changes = repeats.repeated_differences(pairs, lucky=sides, seed=number, **settings)
        covered += [estimate.low <= truth <= estimate.high for estimate in found[:-1]]
        equal += [change.low <= 0 <= change.high for change in changes[:-1]]
        starred.append(min(repeats.holm([change.p_value for change in changes[:-1]])) < 0.05)
        alone.append((found[-1].low <= of_one <= found[-1].high, changes[-1].low <= gap <= changes[-1].high))
    of_alone = " %, ".join(f"{100 * share:.1f}" for share in np.mean(alone, axis=0))
    return f"{100 * np.mean(covered):.1f} %, {100 * np.mean(equal):.1f} %; {100 * np.mean(starred):.1f} %; {of_alone} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--ours", action="store_true")
    parser.add_argument("--repeats", action="store_true")
    parser.add_argument("--differences", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--spreads", type=float, nargs="+", default=SPREADS)
    chosen = parser.parse_args()
    print(describe_machine())
    if chosen.repeats:
        print_repeats(chosen.simulations, chosen.seed)
    elif chosen.differences:
        print_differences(chosen.simulations, chosen.seed, chosen.rates, chosen.spreads)
    else:
        methods = {"ours": ours} if chosen.ours else METHODS
        print_coverage(chosen.simulations, methods, chosen.seed, chosen.rates, chosen.spreads)


if __name__ == "__main__":
    main()
