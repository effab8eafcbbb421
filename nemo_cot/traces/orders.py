"""Orders in which traces are chosen: one function per order, found by its name in curate.order and curate.ties.

With ``@smallest`` a function gives a number for each candidate. With ``@walk`` it takes all of them and yields places,
each once, the first choice first; it is sent back whether that trace was taken, as some stand aside where their problem
has given enough. Candidates come as the seed has shuffled them (and in the order of curate.ties), so equal ones stay as
they came. See docs/curating.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from nemo_cot.config import CurateConfig
    from nemo_cot.traces.candidates import Candidate

Walk = Generator[int, "bool | None", None]
Order = Callable[["Sequence[Candidate]", "CurateConfig"], Walk]
ORDERS: dict[str, Order] = {}
_READS: dict[str, str] = {}


def smallest(key: Callable[[Candidate, CurateConfig], float]) -> Callable[[Candidate, CurateConfig], float]:
    """Make ``key`` an order under its own name: the smallest number first."""

    def order(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
        keys = [key(candidate, config) for candidate in candidates]
        for place in sorted(range(len(keys)), key=keys.__getitem__):  # noqa: UP028 (a list's iterator takes no answer)
            yield place

    ORDERS[key.__name__] = order
    return key


def walk(reads: str) -> Callable[[Order], Order]:
    """Make the function below an order. ``reads``: what of a candidate it needs beyond the row, vector or measures."""

    def register(order: Order) -> Order:
        ORDERS[order.__name__], _READS[order.__name__] = order, reads
        return order

    return register


def read_by(config: CurateConfig) -> set[str]:
    """What the orders of ``config`` need of a candidate beyond the row."""
    return {_READS[name] for name in (config.order, *config.ties) if name in _READS}


@smallest
def shuffle(candidate: Candidate, config: CurateConfig) -> float:
    """At random, by curate.seed: candidates are shuffled."""
    return 0


@smallest
def first(candidate: Candidate, config: CurateConfig) -> float:
    """As they stand in the file."""
    return candidate.row


@smallest
def target(candidate: Candidate, config: CurateConfig) -> float:
    """Lengths nearest to curate.target_tokens first."""
    return abs(candidate.length - config.target_tokens)


@smallest
def longest(candidate: Candidate, config: CurateConfig) -> float:
    """The longest first, in tokens."""
    return -candidate.length


@smallest
def shortest(candidate: Candidate, config: CurateConfig) -> float:
    """The shortest first, in tokens."""
    return candidate.length


@smallest
def easy(candidate: Candidate, config: CurateConfig) -> float:
    """Problems that the teacher solves most often first, over all traces of the pool."""
    return -candidate.pass_rate


@smallest
def hard(candidate: Candidate, config: CurateConfig) -> float:
    """Problems that the teacher solves least often first."""
    return candidate.pass_rate


@walk(reads="vector")
def diverse(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """Each as unlike those already taken as can be: farthest first over hashed words and pairs of words, without what
    all candidates have in common.
    """
    from nemo_cot.traces.structure.vectors import distinctive

    if candidates:
        yield from farthest_first(distinctive([candidate.vector for candidate in candidates]))


@walk(reads="measures")
def diverse_structure(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """Farthest first over the measures of curate.measures, each brought to mean 0 and spread 1; one that is not
    defined counts as the mean.
    """
    import numpy as np

    if candidates:
        table = np.array([[c.measures[name] for name in config.measures] for c in candidates], dtype=np.float64)
        table = np.where(np.isfinite(table), table, np.nan)
        known = ~np.isnan(table)
        count = np.maximum(known.sum(axis=0), 1)
        centred = np.where(known, table - np.where(known, table, 0.0).sum(axis=0) / count, 0.0)
        spread = np.sqrt((centred**2).sum(axis=0) / count)
        yield from farthest_first((centred / np.where(spread > 0, spread, 1.0)).astype(np.float32))


def farthest_first(points: np.ndarray) -> Walk:
    """Places such that each is the farthest from all that were taken before (Gonzalez 1985); the first one as
    it came.

    ``points``: float32 [N, D]; distances are Euclidean, so N x D operations for each that is taken.
    """
    import numpy as np

    nearest = np.full(len(points), np.inf, dtype=np.float32)
    squares = np.einsum("nd,nd->n", points, points)
    for _ in range(len(points)):
        place = int(nearest.argmax())
        taken = yield place
        if taken:
            distances = squares - 2 * (points @ points[place]) + squares[place]
            np.minimum(nearest, np.maximum(distances, 0.0), out=nearest)
        nearest[place] = -1.0
