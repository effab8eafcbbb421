"""The config groups: where their files lie, the dataclass that types each choice, and every key there is."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import re
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from nemo_cot import ROOT
from nemo_cot import config as schema
from nemo_cot.config import engines as engine
from nemo_cot.config.cluster import ClusterConfig, SlurmCluster
from nemo_cot.training.backend import schemas

CONF = (ROOT / "conf").resolve()
EXTRA_CONF = "NEMO_COT_CONFIG_DIR"
"""Environment variable: a further folder with config groups (one's own experiments, models)."""

_VARIANTS: dict[str, dict[str, type]] = {
    "problems": {
        "chain_sum": schema.ChainSumProblems,
        "file": schema.FileProblems,
        "from_traces": schema.TracesProblems,
        "multiple_choice": schema.ChoiceProblems,
        "reasoning_gym": schema.GymProblems,
    },
    "teacher": {
        "procedural": schema.ProceduralTeacher,
        "model": schema.ModelTeacher,
        "file": schema.FileTeacher,
    },
    "train": schemas(),
    "engine": {
        "embedded": engine.EngineConfig,
        "openai": engine.OpenAIEngine,
        "nemo_skills": engine.NemoSkillsEngine,
    },
    "cluster": {"none": ClusterConfig, "slurm": SlurmCluster},
}
"""Config groups whose schema depends on the chosen file; the rest follow from :func:`config_class`."""

PLACES = {
    "evaluate.engine": "engine", "teacher.engine": "engine", "refine.engine": "engine",
    "evaluate.sets.problems": "problems",
}  # fmt: skip
"""Keys that a file of another group fills: evaluate.engine=NAME is Hydra's engine@evaluate.engine=NAME. Of an entry of a
dict as :func:`without_entry` has it: evaluate.sets.NAME.problems=FILE.
"""

KINDS = {
    "problems": "source",
    "teacher": "kind",
    "train": "backend",
    "cluster": "scheduler",
    "teacher.engine": "kind",
    "evaluate.engine": "kind",
    "refine.engine": "kind",
    "evaluate.sets.problems": "source",
}
"""Per place, the key that names its variant."""
BY_CHOICE = {f"{place}.{kind}": place for place, kind in KINDS.items()} | {"model.source": "model"}
"""Keys that come with the chosen file, by the place to choose: alone they would change nothing but the name."""

OPEN = (
    "curate.filters", "curate.subset", "curate.verdict_mix", "marks.words", "problems.options", "problems.tasks",
    "evaluate.sets.problems.options", "evaluate.sets.problems.tasks", "refine.passes", "teacher.where", "train.overrides",
    "transform.steps",
)  # fmt: skip
"""Dicts and lists whose entries, and all below them, are the user's own: an override may name one of them, or a new
one: transform.steps.0.dose=0.5.
"""
_BELOW_OPEN = re.compile(rf"({'|'.join(map(re.escape, OPEN))})(\.\w+)*")

SETS = "evaluate.sets"
_ENTRY = re.compile(r"^(evaluate\.models|evaluate\.sets)\.[\w-]+(?=\.|$)")
"""An entry of a dict, whose name is the user's own; its keys are those of evaluate.models in known_keys."""
SET_PROBLEMS = re.compile(r"^evaluate\.sets\.([\w-]+)\.problems$")
"""The problems of one set, which a file fills."""


@functools.cache
def stage_configs() -> dict[str, type]:
    """The dataclass ``CONFIG`` of each recipe that declares one, by the recipe's name, which is its group's.

    conf/NAME/default.yaml then holds its values. Only those recipes are imported: a start waits for no other.
    """
    texts = {path.stem: path.read_bytes() for path in sorted((ROOT / "recipes").glob("*.py"))}
    names = [name for name, text in texts.items() if re.search(rb"^CONFIG\b", text, re.M)]
    return {name: importlib.import_module(f"nemo_cot.recipes.{name}").CONFIG for name in names}


@functools.cache
def config_class() -> type[schema.Config]:
    """schema.Config, with a field for each of :func:`stage_configs`."""
    more = list(stage_configs().items())
    return dataclasses.make_dataclass("Config", more, bases=(schema.Config,)) if more else schema.Config


def register() -> str:
    """Give Hydra the schemas. Returns the name of the primary config: conf/config.yaml, or one made of it with
    the groups of :func:`stage_configs` before the experiment, which may change their values.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=config_class())
    for group, variants in _VARIANTS.items():
        for name, node in variants.items():
            store.store(group=group, name=f"{name}_schema", node=node)
    if not stage_configs():
        return "config"
    root = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))
    at = root["defaults"].index("_self_")
    root["defaults"][at:at] = [{name: "default"} for name in stage_configs()]
    store.store(name="config_with_stages", node=root)
    return "config_with_stages"


def variants_of(place: str) -> dict[str, type]:
    """The schemas that ``place`` may have, by what its key of :data:`KINDS` then says; none where it has one."""
    return _VARIANTS.get(group_of(place), {})


@functools.cache
def known_keys() -> frozenset[str]:
    """Every dotted key and config group that an override may name."""
    keys = {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir()}
    own = {key for key in schema_keys(config_class(), "") if not key.startswith("refine.engines.")}  # set in files alone
    return frozenset(keys | own)


def is_group(name: str) -> bool:
    """Whether ``name`` is a config group, such as train/layout."""
    return (CONF / name).is_dir()


def group_of(key: str) -> str:
    """The config group whose files fill ``key``; of any other key, that key."""
    return PLACES.get(key) or PLACES.get(without_entry(key), key)


def holds_text(key: str) -> bool:
    """Whether the value of ``key`` is text, or null; a choice of a group is one."""
    hint = schema_keys(config_class(), "").get(without_entry(key))
    return hint in (str, str | None) or is_group(group_of(key))


def is_open(key: str) -> bool:
    """Whether ``key`` is one of :data:`OPEN`, or below one."""
    return _BELOW_OPEN.fullmatch(without_entry(key)) is not None


def without_entry(key: str) -> str:
    """``key`` as known_keys has it: evaluate.models.NAME.path is evaluate.models.path there."""
    return _ENTRY.sub(r"\1", key)


def settable(beside: str) -> set[str]:
    """The known keys that a message about the key ``beside`` may name: for an entry of a dict those of that entry."""
    if entry := _ENTRY.match(beside):
        keys = {key.partition(f"{entry[1]}.")[2] for key in known_keys() - BY_CHOICE.keys()}
        return {f"{entry[0]}.{key}" for key in keys if key}
    return {k for k in known_keys() if not k.startswith(("evaluate.models.", f"{SETS}.")) and k not in BY_CHOICE}


def entries(place: str, tree: Mapping[str, Any]) -> list[str]:
    """The keys of ``tree``, a config, that ``place`` stands for: itself, or evaluate.sets.NAME.problems of each set."""
    if not place.startswith(f"{SETS}."):
        return [place]
    sets = (tree.get("evaluate") or {}).get("sets") or {}
    return [f"{SETS}.{name}.problems" for name in sets]


@functools.cache
def schema_keys(node: type, prefix: str) -> dict[str, object]:
    """The type of every dotted key of ``node``."""
    keys: dict[str, object] = {}
    hints = typing.get_type_hints(node)
    for f in dataclasses.fields(node):
        name = prefix + f.name
        keys[name] = hints[f.name]
        plain = typing.get_args(hints[f.name]) or (hints[f.name],)  # X out of Optional[X] and dict[str, X]
        for inner in (*plain, *variants_of(name).values()):
            if dataclasses.is_dataclass(inner):
                keys |= schema_keys(inner, name + ".")
    return keys


def folders() -> list[Path]:
    """Where config files are looked for, the first ones first."""
    extra = os.environ.get(EXTRA_CONF)
    return [CONF, Path(extra)] if extra else [CONF]


def files_of(group: str) -> list[Path]:
    """The files of ``group``, by name."""
    found = [path for folder in folders() for path in (folder / group).glob("*.yaml") if path.is_file()]
    return sorted(found, key=lambda path: path.stem)


def file_of(option: str) -> Path | None:
    """The file that ``option`` (GROUP/NAME) stands for."""
    found = (folder / f"{option.removesuffix('.yaml')}.yaml" for folder in folders())
    return next((Path(os.path.realpath(path)) for path in found if path.is_file()), None)


def choices(place: str, variants: Collection[str] | None = None) -> str:
    """place=A or place=B: the files of its group, all or those whose schema is one of ``variants``."""
    marks = None if variants is None else [f"- {name}_schema".encode() for name in variants]
    files = files_of(group_of(place))
    names = [p.stem for p in files if marks is None or any(mark in content(p) for mark in marks)]
    return " or ".join(f"{place}={name}" for name in dict.fromkeys(names))


def content(path: Path) -> bytes:
    """What ``path`` holds; nothing where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
