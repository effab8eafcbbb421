"""What a recipe says of its stage: what it reads, what decides its result, and how it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_cot.stages.rundir import RunDirectory


@dataclass(frozen=True)
class Output:
    """A file or folder that another stage writes. ``at``: it lies outside of the run, where that stage has
    only checked it (a model that is used in place).
    """

    stage: str
    file: str
    at: Path | None = None

    def __truediv__(self, name: str) -> Output:
        return Output(self.stage, f"{self.file}/{name}", self.at / name if self.at else None)


Source = Output | Path | Callable[[], Path]
"""Where an input comes from: a stage, a path outside of the run, or a call that finds or checks such a path."""


@dataclass(frozen=True)
class Stage:
    """What to run. Building one reads nothing; order and dependencies of the chain follow from ``inputs``.

    ``work(folder, inputs)`` writes the outputs, among them all of ``writes``, into ``folder``, where it may find what an attempt with the
    same fingerprint left; ``inputs`` holds the paths of all inputs and parts, by label. ``config`` decides the
    result, ``settings`` do not; raise ``version`` when the code gives the same config another meaning. A
    stage that is not ``resumable`` finds an empty folder at every attempt. Folders named in ``listed`` are
    told apart by names and sizes alone: terabytes of checkpoints would take an hour to hash.

    ``parts``: outputs of stages that only serve this one (its chunks); they decide nothing, are kept in the
    manifest, and are not made where this stage is finished without them. ``found(run)``: inputs that are
    whatever the run has by then; such a stage comes after all others, however they ended. ``compare(old,
    new)`` is called with the folders of a result and of the one that replaces it. ``notes`` say of a key of
    ``config`` (dotted) why a change of it counts. ``resources``: which of cluster.resources it takes.
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
    found: Callable[[RunDirectory], dict[str, Path]] | None = None
    compare: Callable[[Path, Path], None] | None = None
    notes: dict[str, str] = field(default_factory=dict)
    resources: str = "cpu"

    @property
    def recipe(self) -> str:
        """The name of the recipe, and of the script, that the stage belongs to."""
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
