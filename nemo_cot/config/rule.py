"""A rule over a config: preflight asks its own, and those of the chosen backend, engines and cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

GIB = 2**30
KNOWN_LATER = "known after convert"
"""What is said of figures that need the model's files, where convert makes them."""


@dataclass(frozen=True)
class Span:
    """An estimate, and the bounds between which the true value is believed to lie."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Span:
        """Each of the three, times ``factor``."""
        return Span(self.low * factor, self.middle * factor, self.high * factor)

    def plus(self, other: Span) -> Span:
        """The sum, as if both were wrong in the same direction."""
        return Span(self.low + other.low, self.middle + other.middle, self.high + other.high)


Found = Iterator[tuple[str, str, str]]
"""Level (error, warning, unknown or ok), what was found, and how to fix it. Nothing found: all is well."""


def together(found: Iterable[tuple[str, tuple[str, str, str]]]) -> Found:
    """What is ``found`` alike of several names (name, finding) once, with the names before it."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for name, finding in found:
        names.setdefault(finding, []).append(name)
    for (level, what, fix), own in names.items():
        yield level, f"{', '.join(own)}: {what}", fix


@dataclass(frozen=True)
class Rule:
    """``check`` yields :data:`Found`; the first line of its docstring says what is well when it finds nothing.

    ``stages``: those that it is about. It is asked before the chain if one of them is in it (without any:
    always), and once more by each of them before it starts. ``always``: before the chain whatever its
    stages are. ``of_machine``: about the machine that asks, so a login node does not ask it for the
    nodes of a job.
    """

    check: Callable[..., Found]
    stages: tuple[str, ...]
    always: bool = False
    of_machine: bool = False

    @property
    def name(self) -> str:
        """Its id."""
        return self.check.__name__.strip("_")

    @property
    def good(self) -> str:
        """What is said when it finds nothing."""
        return (self.check.__doc__ or "").strip()

    def concerns(self, chain: list[str], stage: str | None) -> bool:
        """Whether it is asked for ``stage`` alone, or (None) for the whole ``chain``."""
        if stage is not None:
            return stage in self.stages
        return self.always or not self.stages or not set(self.stages).isdisjoint(chain)


def rule(
    *stages: str, always: bool = False, of_machine: bool = False
) -> Callable[[Callable[..., Found]], Rule]:
    """Make a :class:`Rule` of the function below."""
    return lambda check: Rule(check, stages, always, of_machine)
