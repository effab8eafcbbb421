"""Rules for a chain that is submitted: images, mounts, GPUs, nodes. Asked before anything is queued.

Each says that it does not apply without a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config_cluster import KINDS, ResourcesConfig, SlurmCluster
from nemo_cot.engine_config import EndpointEngine, EngineConfig, NemoSkillsEngine
from nemo_cot.io.paths import user_path
from nemo_cot.nemo.config import AlignerTrain, NemoTrain
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.named_inputs import named_paths

Found = Iterator[tuple[str, str, str]]
Rule = Callable[[Config, Estimate], Found]
_STAGE_OF = {"teacher": "generate", "evaluate": "evaluate"}
_MOST_LINKS = 40  # as Linux


def _on_slurm(check: Callable[[Config, SlurmCluster], Found]) -> Rule:
    """Give the rule the cluster, or report that it does not apply."""

    @wraps(check)
    def rule(cfg: Config, _: Estimate) -> Found:
        if isinstance(cfg.cluster, SlurmCluster):
            yield from check(cfg, cfg.cluster)
        else:
            yield "ok", "does not apply: no cluster", ""

    return rule


@_on_slurm
def _cluster_images(cfg: Config, cluster: SlurmCluster) -> Found:
    """The stages with NeMo-Skills have an image for it."""
    if cluster.container.runtime == "none":
        return
    for stage, _ in _sampled(cfg, _needs_nemo_skills):
        key, resources = cluster.resources.of(stage)
        if resources.image is None:
            yield (
                "error",
                f"{stage} needs NeMo-Skills and vLLM, which the training's image does not hold",
                f"set {key}.image (docs/container.md: the target nemo-skills)",
            )


@_on_slurm
def _cluster_mounts(cfg: Config, cluster: SlurmCluster) -> Found:
    """Every file and folder that the config names is mounted at its own place."""
    if cluster.container.runtime == "none":
        return
    named = {key: Path(os.path.abspath(user_path(path))) for key, path in _contained(cfg).items()}
    held = _held(cfg, cluster)
    hidden = {key: place for key, path in named.items() if (place := _not_held(path, held))}
    entries = dict.fromkeys(f"{place}:{place}:ro" for place in hidden.values())
    for key, place in hidden.items():
        yield (
            "error",
            f"{key}: {named[key]} leads to {place}, which the container does not see"
            if place != named[key]
            else f"{key}: the container does not see {place}",
            f"add to cluster.container.mounts: {', '.join(entries)} (or folders above them)",
        )


@_on_slurm
def _cluster_gpus(cfg: Config, cluster: SlurmCluster) -> Found:
    """A job has the GPUs of the server that it starts."""
    for stage, engine in _sampled(cfg, _takes_gpus):
        key, resources = cluster.resources.of(stage)
        if (resources.gpus_per_node or 0) < engine.server.num_gpus:
            section = "teacher" if stage == "generate" else "evaluate"
            yield (
                "error",
                f"{stage}: a server over {engine.server.num_gpus} GPUs in a job of {resources.gpus_per_node or 0}",
                f"raise {key}.gpus_per_node, or lower {section}.engine.server.num_gpus",
            )


@_on_slurm
def _cluster_nodes(cfg: Config, cluster: SlurmCluster) -> Found:
    """Only NeMo's training runs on several nodes."""
    kinds: dict[str, ResourcesConfig] = dict(cluster.resources.of(s) for s in cfg.launcher.stages)
    several = KINDS["train"] if isinstance(cfg.train, NemoTrain) else None
    for key, resources in kinds.items():
        if (resources.nodes or 1) > 1 and not key.endswith(f".{several}"):
            yield (
                "error",
                f"{key}.nodes {resources.nodes}: its stages run on one node; the others would be idle",
                f"set {key}.nodes=1",
            )


def _sampled(cfg: Config, wanted: Callable[[EngineConfig], bool]) -> list[tuple[str, EndpointEngine]]:
    """The stages that sample by an engine that is ``wanted``, each once."""
    found: dict[str, EndpointEngine] = {}
    for use in engine_uses(cfg):
        if isinstance(use.engine, EndpointEngine) and wanted(use.engine):
            found.setdefault(_STAGE_OF[use.key], use.engine)
    return list(found.items())


def _needs_nemo_skills(engine: EngineConfig) -> bool:
    if isinstance(engine, NemoSkillsEngine):
        return True
    return isinstance(engine, EndpointEngine) and _starts(engine, "nemo_skills")


def _takes_gpus(engine: EngineConfig) -> bool:
    if not isinstance(engine, EndpointEngine):
        return False
    told = any("{num_gpus}" in part for part in engine.server.command)
    return _starts(engine, "nemo_skills") or (_starts(engine, "command") and told)


def _starts(engine: EndpointEngine, launcher: str) -> bool:
    return engine.server.base_url is None and engine.server.launcher == launcher


def _contained(cfg: Config) -> dict[str, str]:
    """What the stages of the chain read, by key."""
    paths = named_paths(cfg, used=True)
    if isinstance(cfg.train, AlignerTrain) and cfg.train.nemo_model and "train" in cfg.launcher.stages:
        paths["train.nemo_model"] = cfg.train.nemo_model
    return paths


def _held(cfg: Config, cluster: SlurmCluster) -> list[Path]:
    """The places that are the same inside of the container as outside, the deepest first."""
    own = [Path.cwd(), Path(os.path.realpath(user_path(cfg.runs_dir) / cfg.name))]
    mounts = [mount.split(":")[:2] for mount in cluster.container.mounts]
    same = [Path(os.path.normpath(source)) for source, target in mounts if source == target]
    return sorted({*own, *same}, key=lambda place: len(place.parts), reverse=True)


def _not_held(path: Path, held: Sequence[Path]) -> Path | None:
    """The first place, on the way to ``path`` and to what a folder's own entries link to, that is not
    below one of ``held``; None when the container sees all of it.
    """
    if place := _followed(path, held):
        return place
    links = sorted(entry for entry in path.iterdir() if entry.is_symlink()) if path.is_dir() else []
    return next((place.parent for link in links if (place := _followed(link, held))), None)


def _followed(path: Path, held: Sequence[Path]) -> Path | None:
    """Follow ``path`` as in the container, where a mount is no link. The first place that is not there."""
    for _ in range(_MOST_LINKS):
        mount = next((place for place in held if path.is_relative_to(place)), None)
        if mount is None:
            return path
        ways = [mount.joinpath(*path.relative_to(mount).parts[: n + 1]) for n in range(len(path.parts))]
        link = next((way for way in ways if way.is_symlink()), None)
        if link is None:
            return None
        rest = path.relative_to(link)
        path = Path(os.path.normpath(link.parent / os.readlink(link) / rest))
    return path


CLUSTER_RULES = (_cluster_images, _cluster_mounts, _cluster_gpus, _cluster_nodes)
