"""What a recipe declares of its stage: what it reads, what decides its result, and the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_cot.stages.rundir import RunDirectory


@dataclass(frozen=True)
class Output:
    """A file or folder that another stage writes. ``at``: its path outside the run, if that stage only
    checks it (a model used in place).
    """

    stage: str
    file: str
    at: Path | None = None

    def __truediv__(self, name: str) -> Output:
        return Output(self.stage, f"{self.file}/{name}", self.at / name if self.at else None)


Source = Output | Path | Callable[[], Path]
"""Where an input comes from: a stage, a path outside the run, or a function that finds or checks such a path."""


EARLIER = "earlier"
"""The input with the folder of an earlier result, where there is one."""


@dataclass(frozen=True)
class Earlier:
    """A result of ``stage``, with ``config`` but for the value of one dotted ``key``, that holds a part of what is
    to be made: of 8 samples the first 4.
    """

    stage: str
    config: dict[str, Any]
    key: str


@dataclass(frozen=True)
class Stage:
    """What to run. Building one reads nothing; order and dependencies of the chain follow from ``inputs``.

    ``work(folder, inputs)`` writes the outputs, including all of ``writes``, into ``folder``; ``inputs`` holds
    the paths of all inputs and parts, by label. If ``resumable``, the folder may hold files of an earlier
    attempt with the same fingerprint, else it is empty. ``config`` decides the result, ``settings`` do not;
    raise ``version`` when the code changes the meaning of the same config. Folders named in ``listed`` are
    compared by names and sizes only: terabytes of checkpoints would take an hour to hash.

    ``earlier``: where this run or one to reuse has such a result, whole and of the same inputs, ``work`` gets its folder
    as the input EARLIER, and the manifest records it. The one with the highest value is taken.

    ``parts``: outputs of stages that only serve this one (its chunks). They are recorded in the manifest but
    not part of the fingerprint, and not made if this stage is finished without them. ``found(run)``: inputs
    are whatever the run has by then; such a stage runs after all others, however they ended. ``compare(old,
    new)`` is called with the folders of a result and of its replacement. ``look(run)`` raises UserError for inputs
    that cannot be used; a recipe asks all of its stages before the first of them works. ``notes``: why a change of a (dotted)
    key of ``config`` matters. ``resources``: its kind in cluster.resources. ``server``: of stages of a recipe that are equal
    in it a cluster's job makes several, one after another, with one start of their server; None: each has its own job.
    """

    name: str
    inputs: Mapping[str, Source]
    config: dict[str, Any]
    work: Callable[[Path, Mapping[str, Path]], None]
    writes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    resumable: bool = False
    listed: tuple[str, ...] = ()
    parts: Mapping[str, Source] = field(default_factory=dict)
    earlier: Earlier | None = None
    found: Callable[[RunDirectory], dict[str, Path]] | None = None
    compare: Callable[[Path, Path], None] | None = None
    look: Callable[[RunDirectory], None] | None = None
    notes: dict[str, str] = field(default_factory=dict)
    resources: str = "cpu"
    server: Any = None

    @property
    def recipe(self) -> str:
        """The name of the recipe, and so of the script, that the stage belongs to."""
        return self.name.partition("/")[0]

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose outputs are its inputs."""
        return _makers(self.inputs)

    @property
    def part_stages(self) -> tuple[str, ...]:
        """The stages whose outputs are its parts."""
        return _makers(self.parts)


def _makers(sources: Mapping[str, Source]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s.stage for s in sources.values() if isinstance(s, Output)))
