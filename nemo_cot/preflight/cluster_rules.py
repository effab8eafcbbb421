"""Rules for a chain that is submitted: images, interpreters, mounts, GPUs, nodes. Asked before anything is queued."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.cluster import Placed, ResourcesConfig, SlurmCluster
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.config.rule import Found, rule
from nemo_cot.evaluation.sets import held_out_sets
from nemo_cot.io.paths import user_path
from nemo_cot.preflight.engine_uses import EngineUse, engine_uses
from nemo_cot.preflight.image_names import examine_image
from nemo_cot.preflight.named_inputs import named_paths
from nemo_cot.training.backend import backend_of

_MOST_LINKS = 40  # as Linux
_LIGHT_CORE = "/opt/nemo-cot/venv/bin/python"
"""The Python of the recipes in our images (Dockerfile), which has no torch (tests/experiment/test_light_core.py)."""


@rule()
def cluster_images(cfg: Config, cluster: SlurmCluster, of: Placed) -> Found:
    """Every stage has an image that the runtime takes, and those with NeMo-Skills one for it."""
    if cluster.container.runtime == "none":
        return
    skilled = {use.recipe for use, client in _clients(cfg) if any(skills for _, skills in client.programs().values())}
    for stage in sorted(skilled):
        key, resources = of(stage)
        if resources.image is None:
            yield (
                "error",
                f"{stage} needs NeMo-Skills and vLLM, which the training's image does not hold",
                f"set {key}.image (docs/container.md: the target nemo-skills)",
            )
    for key, image in _images(cfg, cluster, of).items():
        if image is not None:
            yield from examine_image(cluster.container.runtime, key, image, Path.cwd())
        elif set(cfg.launcher.stages) - skilled:
            yield (
                "error",
                "there is a container runtime, and no image",
                f"set {key}, or cluster.container.runtime=none",
            )


def _images(cfg: Config, cluster: SlurmCluster, of: Placed) -> dict[str, str | None]:
    """The images of the chain's stages, by key."""
    images: dict[str, str | None] = {}
    for key, resources in _kinds(cfg, of).items():
        own = resources.image is not None
        name = f"{key}.image" if own else "cluster.container.image"
        images[name] = resources.image if own else cluster.container.image
    return images


@rule()
def cluster_torch(cfg: Config, cluster: SlurmCluster, of: Placed) -> Found:
    """A stage that loads a model itself has a Python with torch."""
    stages = [] if cluster.container.runtime == "none" else _with_local_packages(cfg)
    found = [(stage, *of(stage)) for stage in stages]
    lacking = [(stage, key) for stage, key, own in found if (own.python or cluster.python) == _LIGHT_CORE]
    if lacking:
        keys = dict.fromkeys(f"{key}.python" for _, key in lacking)
        yield (
            "error",
            f"{', '.join(stage for stage, _ in lacking)}: {_LIGHT_CORE} of the images has no torch, "
            "transformers or reasoning_gym",
            f"set {', '.join(keys)} to a Python in the image that has them (pip install -e '.[local]'), or run "
            "outside of it, with the Python that submits: cluster.container.runtime=none cluster.python=null",
        )


def _with_local_packages(cfg: Config) -> list[str]:
    """The stages of the chain that import what only `pip install -e '.[local]'` installs."""
    wanting = {
        "problems": any(one.cfg.problems.packages for one in held_out_sets(cfg)),
        "grade": cfg.problems.scorer_packages,
        "convert": cfg.model.source == "gguf_package",
        "train": backend_of(cfg.train).packages,
        "evaluate": any(one.cfg.problems.scorer_packages for one in held_out_sets(cfg)),
        **{use.recipe: True for use in engine_uses(cfg) if use.engine.client is None},
    }
    return [stage for stage, wants in wanting.items() if wants and stage in cfg.launcher.stages]


@rule()
def cluster_programs(cfg: Config, cluster: SlurmCluster, of: Placed) -> Found:
    """Without a container, the interpreters that stages are started with are here."""
    if cluster.container.runtime != "none":
        return
    for key, program in _programs(cfg, cluster, of).items():
        if program.startswith("/") and not Path(program).exists():
            null = " or null, which is the one that submits" if key.startswith("cluster") else ""
            yield (
                "error",
                f"{key}: there is no {program} here, and no container that has it",
                f"set {key} to one that the nodes have{null}",
            )


def _programs(cfg: Config, cluster: SlurmCluster, of: Placed) -> dict[str, str]:
    """The interpreters of the chain's stages, by key."""
    named = {f"{key}.python": own.python for key, own in _kinds(cfg, of).items()}
    if None in named.values():
        named["cluster.python"] = cluster.python
    for use, client in _clients(cfg):
        programs = client.programs().items()
        named |= {f"{use.engine_key}.{key}": name for key, (name, with_skills) in programs if with_skills}
    if "train" in cfg.launcher.stages:
        named |= backend_of(cfg.train).programs()
    return {key: program for key, program in named.items() if program is not None}


@rule()
def cluster_mounts(cfg: Config, cluster: SlurmCluster, of: Placed) -> Found:
    """Every file and folder that the config names is mounted at its own place."""
    if cluster.container.runtime == "none":
        return
    for source in (mount.partition(":")[0] for mount in cluster.container.mounts):
        if not Path(source).exists():
            yield (
                "warning",
                f"cluster.container.mounts: there is no {source} here; the nodes must have it",
                "correct cluster.container.mounts if they do not",
            )
    paths = named_paths(cfg, used=True)
    paths |= backend_of(cfg.train).paths() if "train" in cfg.launcher.stages else {}
    named = {key: Path(os.path.abspath(user_path(path))) for key, path in paths.items()}
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


@rule()
def cluster_gpus(cfg: Config, cluster: SlurmCluster, of: Placed) -> Found:
    """A job has the GPUs of the server that it starts, and none that stay idle."""
    servers = {use.engine_key: (use.recipe, client.server) for use, client in _clients(cfg) if client.server.takes_gpus}
    for engine, (stage, server) in servers.items():
        key, resources = of(stage)
        if (resources.gpus_per_node or 0) < server.num_gpus:
            yield (
                "error",
                f"{stage}: a server over {server.num_gpus} GPUs in a job of {resources.gpus_per_node or 0}",
                f"raise {key}.gpus_per_node, or lower {engine}.server.num_gpus",
            )
    most: dict[str, tuple[int, str]] = {}
    for stage, used in _gpus_used(cfg).items():
        key = of(stage)[0]
        most[key] = max(most.get(key, (-1, "")), (used, stage))
    for key, (used, stage) in most.items():
        resources = of(stage)[1]
        if (resources.gpus_per_node or 0) > used:
            yield (
                "warning",
                f"{stage} uses {used or 'no'} GPU{'s' * (used != 1)}, its job asks for {resources.gpus_per_node}",
                f"set {key}.gpus_per_node={used or 'null'}, unless the partition wants more",
            )


def _gpus_used(cfg: Config) -> dict[str, int]:
    """The most GPUs that a stage of the chain can use, where that is known."""
    training = backend_of(cfg.train).num_gpus
    used = {} if training is None else {"train": training}
    used |= {} if cfg.teacher.by_model else {"generate": 0}
    for use in engine_uses(cfg):
        client = use.engine.client
        if client and client.server.base_url is None and not client.server.takes_gpus:
            return {}  # a command of the user's own takes what it takes
        own = 1 if client is None else client.server.num_gpus if client.server.takes_gpus else 0
        used[use.recipe] = max(used.get(use.recipe, 0), own)
    return {stage: most for stage, most in used.items() if stage in cfg.launcher.stages}


@rule()
def cluster_nodes(cfg: Config, cluster: SlurmCluster, of: Placed) -> Found:
    """Only training runs on several nodes, with a backend that can."""
    several = of("train")[0] if backend_of(cfg.train).several_nodes else None
    for key, resources in _kinds(cfg, of).items():
        if (resources.nodes or 1) > 1 and key != several:
            yield (
                "error",
                f"{key}.nodes {resources.nodes}: its stages run on one node; the others would be idle",
                f"set {key}.nodes=1",
            )


def _kinds(cfg: Config, of: Placed) -> dict[str, ResourcesConfig]:
    """The resources that the chain's stages use, by key."""
    return dict(of(stage) for stage in cfg.launcher.stages)


def _clients(cfg: Config) -> list[tuple[EngineUse, EndpointEngine]]:
    """The uses of a server, with its client."""
    return [(use, use.engine.client) for use in engine_uses(cfg) if use.engine.client]


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


CLUSTER_RULES = (
    cluster_images, cluster_torch, cluster_programs, cluster_mounts, cluster_gpus, cluster_nodes,
)  # fmt: skip
