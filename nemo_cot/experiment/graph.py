"""The chain: every stage that the recipes declare, each after those whose outputs it reads.

Nothing else knows the stages or their dependencies. A recipe is a script recipes/NAME.py with a
function NAME(cfg) that yields its stages; one that yields none does not apply to this config.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import msgspec

from nemo_cot import ROOT
from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.stages import Output, Source, Stage

Recipe = Callable[[Config], Iterable[Stage]]


def recipe_names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(path.stem for path in (ROOT / "recipes").glob("[a-z]*.py"))


def load_recipe(name: str) -> Recipe:
    """The function of recipes/NAME.py."""
    return getattr(importlib.import_module(f"nemo_cot.recipes.{name}"), name)


@dataclass(frozen=True)
class Graph:
    """``stages`` by name, each after those that it reads."""

    stages: dict[str, Stage]

    @property
    def recipes(self) -> list[str]:
        """The recipes, in an order in which they can run."""
        return list(dict.fromkeys(stage.recipe for stage in self.stages.values()))

    def needs(self, name: str) -> list[str]:
        """The stages of this graph that ``name`` reads, including its parts."""
        stage = self.stages[name]
        return [need for need in (*stage.needs, *stage.part_stages) if need in self.stages]

    @property
    def wholes(self) -> dict[str, str]:
        """The stages that only serve another one of their recipe as its parts (chunks), with that stage."""
        return {
            part: name
            for name, stage in self.stages.items()
            for part in stage.part_stages
            if part in self.stages and self.stages[part].recipe == stage.recipe
        }

    @property
    def kinds(self) -> dict[str, str]:
        """Per recipe, what its stages take of cluster.resources; merging and scoring take cpu beside it."""
        wanted = {stage.recipe: stage.resources for stage in self.stages.values() if stage.resources != "cpu"}
        return dict.fromkeys(self.recipes, "cpu") | wanted

    @property
    def keys(self) -> dict[str, str]:
        """What tells each stage from those of other chains, by name, before any has run: two are the same if name, version
        and config are, and each input comes from the same file of the same stage, or from the same place outside the
        runs. Stages that find their inputs by themselves have none.
        """
        keys: dict[str, str] = {}
        for name, stage in self.stages.items():
            if stage.found is None:
                inputs = {label: _source(source, keys) for label, source in stage.inputs.items()}
                content = msgspec.json.encode([name, stage.version, stage.config, inputs], order="deterministic")
                keys[name] = hashlib.sha256(content).hexdigest()
        return keys

    def ancestors(self, recipe: str) -> set[str]:
        """The recipes whose stages those of ``recipe`` need, directly or through others."""
        own = [name for name, stage in self.stages.items() if stage.recipe == recipe]
        return {stage.recipe for stage in self.before(own).stages.values()} - {recipe}

    def before(self, names: Iterable[str]) -> Graph:
        """The stages that those of ``names`` need, directly or through others, without these."""
        chosen = set(names)
        found: set[str] = set()
        todo = list(chosen)
        while todo:
            new = {need for need in self.needs(todo.pop()) if need not in found}
            found |= new
            todo += new
        return self.of(found - chosen)

    def of(self, names: Iterable[str]) -> Graph:
        """The stages of these ``names`` alone."""
        chosen = set(names)
        return Graph({name: stage for name, stage in self.stages.items() if name in chosen})

    def only(self, recipes: Iterable[str]) -> Graph:
        """The stages of ``recipes`` alone."""
        chosen = set(recipes)
        return Graph({name: stage for name, stage in self.stages.items() if stage.recipe in chosen})


def _source(source: Source, keys: dict[str, str]) -> str:
    if isinstance(source, Output):
        return f"{keys.get(source.stage, source.stage)} {source.file} {source.at}"
    if isinstance(source, partial):
        return f"{source.func.__module__}.{source.func.__qualname__} {source.args!r} {sorted(source.keywords.items())!r}"
    # Another function may hold anything: only the very same one is the same.
    return f"{id(source)}" if callable(source) else str(source)


def whole_graph(cfg: Config) -> Graph:
    """All recipes that apply, whether or not launcher.stages names them. Raises UserError for a recipe that
    reads what no other writes, or for a cycle.
    """
    made = {name: list(load_recipe(name)(cfg)) for name in recipe_names()}
    stages: dict[str, Stage] = {}
    for name, own in made.items():
        for stage in own:
            if stage.recipe != name or stage.name in stages:
                raise UserError(
                    f"the stage {stage.name} is not the recipe's own, or made twice",
                    where=f"recipes/{name}.py",
                    fix=f"call it {name}, or {name}/PART",
                )
            stages[stage.name] = stage
    for stage in stages.values():
        _check(stage, stages)
    needs = {
        name: {stages[n].recipe for stage in own for n in (*stage.needs, *stage.part_stages)} - {name}
        for name, own in made.items()
    }
    return Graph({stage.name: stage for name in _in_order(needs, made) for stage in made[name]})


def graph(cfg: Config, whole: Graph | None = None) -> Graph:
    """The chain of launcher.stages out of the ``whole`` graph (None: to be made), without the recipes that do not apply.
    Raises UserError for an unknown one.
    """
    known = recipe_names()
    if unknown := [name for name in cfg.launcher.stages if name not in known]:
        raise UserError(
            f"there is no stage {unknown[0]!r}", where="launcher.stages", fix=f"choose among {', '.join(known)}"
        )
    return (whole or whole_graph(cfg)).only(cfg.launcher.stages)


def stage_names(cfg: Config) -> list[str]:
    """The stages of the chain without the report and without chunks."""
    found = graph(cfg)
    return [n for n, stage in found.stages.items() if n not in found.wholes and stage.found is None]


def _check(stage: Stage, stages: dict[str, Stage]) -> None:
    """Raise UserError when ``stage`` reads a file that no stage writes."""
    for source in (*stage.inputs.values(), *stage.parts.values()):
        if not isinstance(source, Output):
            continue
        maker = stages.get(source.stage)
        name = source.file.partition("/")[0]
        if maker is None or (source.at is None and name not in maker.writes):
            raise UserError(
                f"the stage {stage.name} reads {source.stage}/{source.file}, which no stage writes",
                where=f"recipes/{stage.recipe}.py",
                fix=f"choose among the stages {', '.join(stages)}"
                if maker is None
                else f"{source.stage} writes {', '.join(maker.writes)}",
            )


def _in_order(needs: dict[str, set[str]], made: dict[str, list[Stage]]) -> list[str]:
    """Recipes by the length of the longest path to them, then by name; those with ``found`` inputs last."""
    depths: dict[str, int] = {}

    def depth(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            raise UserError(
                f"depend on each other: {' -> '.join((*above, name))}", where="recipes", fix="break the cycle"
            )
        if name not in depths:
            depths[name] = max((depth(need, (*above, name)) + 1 for need in needs[name]), default=0)
        return depths[name]

    last = {name for name, own in made.items() if any(stage.found for stage in own)}
    return sorted(made, key=lambda name: (name in last, depth(name), name))
