"""Orders in which traces are chosen: one file per order, nemo_cot/traces/orders/NAME.py, found by its name.

Each defines ``walk(candidates, config)``, which yields places in ``candidates``, each once, the first choice
first. It is sent back whether that trace was taken: some stand aside, as their problem has given enough.
Candidates come as the seed has shuffled them (and in the order of curate.ties), so equal ones stay as they
came. ``NEEDS`` names what of a candidate it reads beyond the row: "vector", "measures". See docs/curating.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from nemo_cot.config.checks import one_of

if TYPE_CHECKING:
    import numpy as np

Walk = Generator[int, "bool | None", None]


def order_names() -> list[str]:
    """The names of all orders, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def check_orders(key: str, names: Sequence[str]) -> None:
    """Raise UserError for a name that is no order's."""
    for name in names:
        one_of(key, name, order_names())


def load_order(name: str):
    """The module of the order."""
    return importlib.import_module(f"{__name__}.{name}")


def needs(names: Sequence[str]) -> frozenset[str]:
    """What the orders read of a candidate beyond the row."""
    return frozenset().union(*(getattr(load_order(name), "NEEDS", ()) for name in names))


def ascending(keys: Sequence[float]) -> Walk:
    """Places by their keys, the smallest first; equal ones as they came."""
    for place in sorted(range(len(keys)), key=keys.__getitem__):  # noqa: UP028 (a list's iterator takes no answer)
        yield place


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
