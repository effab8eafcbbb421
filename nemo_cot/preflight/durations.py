"""How long each stage will take: by earlier runs on this machine, else by an estimate or an assumption that is named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from nemo_cot.config import Config
from nemo_cot.config.rule import Span
from nemo_cot.errors import UserError
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.sampling_cost import Hours, SamplingCost
from nemo_cot.provenance import hardware
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.manifest import Manifest, flatten, read_manifest
from nemo_cot.training.backend import backend_of, job_size

_MOST_RUNS = 50
_SPREAD = 1.5
"""To both sides of what earlier runs took: other load, other lengths."""
_CORE_FLOPS = 50e9
"""Operations per second and core of our own engine and trainer on a CPU; assumed, to a factor of 3."""
_MOMENT = Span(1.0, 10.0, 60.0)
"""Of a stage that neither samples nor trains; assumed."""
_COPY_BYTES_PER_SECOND = 0.3e9
"""At which a conversion reads and writes a model on a shared file system; assumed."""
_CHANGES_NO_SPEED = re.compile(
    r"(^|\.)(seed|samples_per_problem|max_steps|num_traces|per_problem|min_tokens|max_tokens|target_tokens|order|optim\..*|"
    r"verdicts|gradient_clip_val|filters(\..*)?|bootstrap_resamples|confidence|chunks?|grader_version)$"
)
"""Keys of a stage's config that leave the time per unit of its work as it is."""


@dataclass(frozen=True)
class Duration:
    """``seconds`` of wall time, of all chunks one after another; ``gpu_hours`` None where no GPU works. ``basis``: why."""

    seconds: Span | None
    gpu_hours: Span | None
    basis: str


def durations(
    cfg: Config, stages: Mapping[str, Stage], estimate: Estimate, run: RunDirectory
) -> dict[str, Duration]:
    """Of each of ``stages`` (by name, chunks among them)."""
    earlier = _Earlier(cfg, run)
    sampled = {cost.stage: cost for cost in estimate.sampling}
    found = {name: _duration(cfg, stage, estimate, sampled, earlier) for name, stage in stages.items()}
    return {name: _with_gpus(cfg, stages[name], duration) for name, duration in found.items()}


def _with_gpus(cfg: Config, stage: Stage, duration: Duration) -> Duration:
    """On a cluster a job holds its GPUs as long as it runs."""
    if cfg.cluster.slurm is None or duration.seconds is None or duration.gpu_hours is not None:
        return duration
    nodes, gpus = job_size(cfg, stage)
    return replace(duration, gpu_hours=duration.seconds.times(nodes * gpus / 3600)) if gpus else duration


def _duration(
    cfg: Config, stage: Stage, estimate: Estimate, sampled: Mapping[str, SamplingCost], earlier: _Earlier
) -> Duration:
    cost = sampled.get(stage.name.rpartition("/chunk-")[0] or stage.name)
    if cost is not None and stage.part_stages:
        return Duration(_MOMENT, None, "merges its chunks")
    units = _units(cfg, stage, cost)
    if (found := earlier.seconds(stage, units)) is not None:
        return found
    if cost is not None:
        return _sampling(cost, units)
    if stage.recipe == "train":
        return _training(cfg, estimate)
    if stage.resources == "conversion" and estimate.model.parameters:
        seconds = 2 * 2 * estimate.model.parameters / _COPY_BYTES_PER_SECOND
        basis = f"reads and writes the model at {_COPY_BYTES_PER_SECOND / 1e9:g} GB/s"
        return Duration(Span(seconds / 3, seconds, 3 * seconds), None, f"{basis} (assumed)")
    return Duration(_MOMENT, None, "assumed")


def _units(cfg: Config, stage: Stage, cost: SamplingCost | None) -> float | None:
    """The work of a stage: answers, optimizer steps; None for stages whose time is taken as it is."""
    if cost is not None:
        return None if cost.answers is None else cost.answers / (cost.use.chunks if "/chunk-" in stage.name else 1)
    return float(cfg.train.max_steps) if stage.recipe == "train" else None


def _sampling(cost: SamplingCost, units: float | None) -> Duration:
    hours = cost.hours
    if isinstance(hours, Hours):
        each = 1 / cost.use.chunks if cost.use.chunks > 1 else 1.0
        return Duration(hours.seconds, hours.gpu_hours.times(each), f"simulated: {hours.assumed}")
    shape = cost.use.facts.parameters
    if cost.use.engine.client is not None or shape is None or units is None:
        return Duration(None, None, hours)
    tokens = units * (cost.prompt_tokens + cost.lengths[0][1].mean)
    return _on_cpu(2.0 * shape * tokens)


def _training(cfg: Config, estimate: Estimate) -> Duration:
    cost = estimate.training
    if cost.seconds is not None:
        return Duration(cost.seconds, cost.seconds.times(cost.num_gpus / 3600), cost.at)
    if cost.operations is None or backend_of(cfg.train).num_gpus is None:
        return Duration(None, None, "known when the model's shape is")
    return _on_cpu(cost.operations)


def _on_cpu(operations: float) -> Duration:
    cores = hardware()["cores"]
    seconds = operations / (_CORE_FLOPS * cores)
    basis = f"{operations:.1e} operations at {_CORE_FLOPS / 1e9:g}e9 per second on each of {cores} cores (assumed)"
    return Duration(Span(seconds / 3, seconds, 3 * seconds), None, basis)


class _Earlier:
    """The finished stages in the folder of runs that were made on this machine, with a model of the same name."""

    def __init__(self, cfg: Config, run: RunDirectory) -> None:
        self._here = hardware()
        made = {folder: _manifest(RunDirectory(folder), "convert") for folder in _latest(run.path.parent)}
        models = {folder: one.config.get("model", {}).get("name") for folder, one in made.items() if one}
        self._runs = [folder for folder, name in models.items() if name == cfg.model.name]

    def seconds(self, stage: Stage, units: float | None) -> Duration | None:
        """By the time per unit that the same work took; None without any."""
        rates = []
        for folder in self._runs:
            made = _manifest(RunDirectory(folder), stage.name)
            if made is None or made.attempts > 1 or made.reused_from or not self._comparable(made, stage):
                continue
            done = _done(made) if units is not None else 1.0
            if done and made.wall_seconds >= 0:  # below 0: a clock was set back
                rates.append(made.wall_seconds / done)
        if not rates:
            return None
        span = Span(min(rates) / _SPREAD, median(rates), max(rates) * _SPREAD).times(units or 1.0)
        return Duration(span, None, f"{len(rates)} earlier run{'s' * (len(rates) > 1)} on this machine")

    def _comparable(self, made: Manifest, stage: Stage) -> bool:
        same = all(made.hardware.get(key) == self._here[key] for key in ("processor", "cores"))
        return same and _speed_keys(made.config) == _speed_keys(stage.config)


def _speed_keys(config: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in flatten(config).items() if not _CHANGES_NO_SPEED.search(key)}


def _done(made: Manifest) -> float:
    """The units of :func:`_units` that an earlier stage did."""
    if made.stage == "train":
        return float(made.config.get("train", {}).get("max_steps", 0))
    return float(max((artifact.rows or 0 for artifact in made.outputs.values()), default=0))


def _manifest(run: RunDirectory, stage: str) -> Manifest | None:
    try:
        return read_manifest(run.stage(stage))
    except (UserError, OSError):
        return None


def _latest(runs_dir: Path) -> Iterator[Path]:
    """Folders of runs, the youngest first."""
    try:
        found = [(path.stat().st_mtime, path) for path in runs_dir.iterdir() if (path / "convert").is_dir()]
    except OSError:
        return
    yield from (path for _, path in sorted(found, reverse=True)[:_MOST_RUNS])


