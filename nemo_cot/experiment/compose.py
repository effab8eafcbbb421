"""Compose conf/ with Hydra into the plain dataclasses of nemo_cot.config, with errors that help."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
import typing
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc
from yaml import YAMLError

from nemo_cot import ROOT
from nemo_cot import config as schema
from nemo_cot.config import engines as engine
from nemo_cot.config.cluster import ClusterConfig, SlurmCluster, looks_secret
from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.errors import UserError
from nemo_cot.experiment.graph import recipe_names
from nemo_cot.experiment.typed import quoting, refuse_non_finite, text_override, wanted_type
from nemo_cot.stages.manifest import flatten
from nemo_cot.training import backend

CONF = (ROOT / "conf").resolve()
EXTRA_CONF = "NEMO_COT_CONFIG_DIR"
"""Environment variable: a further folder with config groups (one's own experiments, models)."""

_VARIANTS = {
    "problems": {"chain_sum": schema.ChainSumProblems, "file": schema.FileProblems},
    "teacher": {
        "procedural": schema.ProceduralTeacher,
        "model": schema.ModelTeacher,
        "file": schema.FileTeacher,
    },
    "train": backend.schemas(),
    "engine": {
        "embedded": engine.EngineConfig,
        "openai": engine.OpenAIEngine,
        "nemo_skills": engine.NemoSkillsEngine,
    },
    "cluster": {"none": ClusterConfig, "slurm": SlurmCluster},
}
"""Config groups whose schema depends on the chosen file; the rest follow from schema.Config."""

_PLACES = {"evaluate.engine": "engine", "teacher.engine": "engine"}
"""Keys that a file of another group fills: evaluate.engine=NAME is Hydra's engine@evaluate.engine=NAME."""


_ENTRY = re.compile(r"^evaluate\.models\.[\w-]+(?=\.|$)")
"""An entry of a dict, whose name is the user's own; its keys are those of evaluate.models in known_keys."""


def load_config(overrides: Sequence[str]) -> schema.Config:
    """The validated config of ``overrides``. Raises UserError that names the key and the fix."""
    return to_dataclasses(compose_config(overrides))


_VARIABLE = re.compile(r"^cluster\.environment\.[A-Za-z_][A-Za-z0-9_]*$")
"""An entry of cluster.environment: it may be a new one."""


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The composed tree, typed by the schema. Raises UserError as :func:`load_config` does."""
    _register_schemas()
    overrides = [_text_as_typed(text) for text in overrides]
    parsed = _parse(overrides)
    for override in parsed:
        _check_key(override)
    keys = [override.key_or_group for override in parsed]
    overrides = [_placed(text) for text in overrides]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            tree = compose("config", overrides=[*_search_path(), *overrides])
        except YAMLError as error:
            raise _explain_yaml(error) from None
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise explain(error, overrides) from None
    if "pass_environment" not in tree.cluster and (found := next(filter(_VARIABLE.match, keys), None)):
        raise UserError("no cluster is chosen", where=found, fix="add cluster=slurm_minimal, or leave it out")
    return tree


def to_dataclasses(tree: DictConfig) -> schema.Config:
    """``tree`` as dataclasses; their own checks run here."""
    try:
        plain = flatten(OmegaConf.to_container(tree, resolve=False))  # missing_keys stops at a ${MISSING}
        if missing := sorted(key for key, value in plain.items() if value == MISSING):
            raise _must_be_given(*missing)
        OmegaConf.missing_keys(tree)  # its error names the key of an interpolation that leads nowhere
        OmegaConf.resolve(tree)
        refuse_non_finite(OmegaConf.to_container(tree))
        return typing.cast(schema.Config, OmegaConf.to_object(tree))
    except OmegaConfBaseException as error:
        raise explain(error) from None


def to_yaml(tree: DictConfig) -> str:
    """The resolved tree as YAML, as ``show`` prints it and the run directory keeps it."""
    return OmegaConf.to_yaml(tree, resolve=True)


def _environment_variable(*arguments: object, _root_: DictConfig) -> object:
    """The resolver oc.env, which refuses secrets: what it returns is written into config.yaml and manifests."""
    name = str(arguments[0])
    passed = OmegaConf.select(_root_, "cluster.pass_environment") or []
    if looks_secret(name) or (name in passed and name not in _NO_SECRETS):
        raise ValueError(
            f"{name} may be a secret, and would be written into files; programs read it themselves"
        )
    return oc.env(*arguments)


_NO_SECRETS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS",
               "HF_HOME")  # fmt: skip
"""Of cluster.pass_environment, what a config may name."""


def _register_schemas() -> None:
    OmegaConf.register_new_resolver("oc.env", _environment_variable, replace=True)
    OmegaConf.register_new_resolver("recipes", recipe_names, replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=schema.Config)
    for group, variants in _VARIANTS.items():
        for name, node in variants.items():
            store.store(group=group, name=f"{name}_schema", node=node)


def _search_path() -> list[str]:
    extra = os.environ.get(EXTRA_CONF)
    if not extra:
        return []
    if not Path(extra).is_dir():
        raise UserError(
            "no such directory", where=f"{EXTRA_CONF}={extra}", fix=f"correct or unset {EXTRA_CONF}"
        )
    return [f"hydra.searchpath=[{hydra_quoted(f'file://{Path(extra).resolve()}')}]"]


def _text_as_typed(override: str) -> str:
    key = override.partition("=")[0]
    holds_text = _VARIABLE.match(key) or _without_entry(key) in _text_keys()
    return text_override(override) if holds_text else override


def _placed(override: str) -> str:
    """``override`` with the group's name before a key that a file of another group fills."""
    key, _, value = override.partition("=")
    if _VARIABLE.match(key):
        return f"++{override}"
    return f"{_PLACES[key]}@{key}={value}" if key in _PLACES else override


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            raise _not_an_override(text) from None
    return parsed


def _not_an_override(text: str) -> UserError:
    key, equals, value = text.partition("=")
    if not equals:
        return UserError(
            "is not an override", where=repr(text), fix="write key=value, as in train.optim.lr=5e-6"
        )
    if not _VARIABLE.match(key) and _without_entry(key) not in known_keys():
        return _unknown(key, known_keys())
    return UserError("is not an override", where=repr(text), fix=quoting(key, value))


def _check_key(override: Override) -> None:
    """Refuse what the schema does not know before Hydra sees it, naming the nearest key."""
    key = override.key_or_group
    if override.is_sweep_override():
        raise UserError("sweeps several values", where=key, fix="run the command once for each value")
    if override.is_delete() or override.is_add() or override.is_force_add():
        raise UserError(
            "keys cannot be added or deleted",
            where=override.input_line or key,
            fix="set an existing key: key=value",
        )
    if key == "cluster.environment":
        raise UserError(
            "is set one variable at a time", where=key, fix="write cluster.environment.NAME=VALUE for each"
        )
    if _VARIABLE.match(key):
        return
    known = known_keys()
    if _without_entry(key) not in known:
        raise _unknown(key, known)
    if key in _PLACES.values():
        places = [place for place, group in _PLACES.items() if group == key]
        raise UserError("is no key of its own", where=key, fix=f"set {' or '.join(places)}")
    group = _PLACES.get(key, key)
    if (CONF / group).is_dir() and not isinstance(override.value(), (str, type(None))):
        raise _unknown_option(f"{group}/{override.get_value_element_as_str()}")


def known_keys() -> set[str]:
    """Every dotted key and config group that an override may name."""
    keys = {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir()}
    return keys | set(_schema_keys(schema.Config, ""))


def _text_keys() -> set[str]:
    """The keys that hold text, or null."""
    return {key for key, hint in _schema_keys(schema.Config, "").items() if hint in (str, str | None)}


def _without_entry(key: str) -> str:
    return _ENTRY.sub("evaluate.models", key)


@functools.cache
def _schema_keys(node: type, prefix: str) -> dict[str, object]:
    """The type of every dotted key of ``node``."""
    keys: dict[str, object] = {}
    hints = typing.get_type_hints(node)
    for f in dataclasses.fields(node):
        name = prefix + f.name
        keys[name] = hints[f.name]
        variants = _VARIANTS.get(_PLACES.get(name, name), {})
        for inner in (*_plain_types(hints[f.name]), *variants.values()):
            if dataclasses.is_dataclass(inner):
                keys |= _schema_keys(inner, name + ".")
    return keys


def _plain_types(hint: object) -> tuple[object, ...]:
    """X out of Optional[X] and dict[str, X]."""
    return typing.get_args(hint) or (hint,)


def _unknown(key: str, known: set[str]) -> UserError:
    """Name the nearest key: a sibling, or the same last part elsewhere, or anything alike."""
    parent, _, last = key.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in sorted(known) if k.rpartition(".")[0] == parent}
    same_part = [k for k in sorted(known) if k.rpartition(".")[2] == last]
    near = [k for k in same_part if k.partition(".")[0] == key.partition(".")[0]]
    near = near or [siblings[part] for part in difflib.get_close_matches(last, siblings, n=1)]
    near = near or same_part or difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.75)
    if near:
        return UserError("unknown key", where=key, fix=f"did you mean {near[0]}?")
    choices = ", ".join(sorted(siblings)) if parent and siblings else "those that `nemo-cot show` prints"
    return UserError("unknown key", where=key, fix=f"the keys there are: {choices}")


def explain(error: Exception, overrides: Sequence[str] = ()) -> UserError:
    """One line out of Hydra's and OmegaConf's several; ``overrides`` are what was typed."""
    text = str(error)
    if missing := re.search(r"Could not find '([^']+)'", text) or re.search(
        r"Cannot find primary config '([^']+)'", text
    ):
        return _unknown_option(missing.group(1))
    if absent := re.search(r"Could not override '(?:\w+@)?([^']+)'", text):
        if absent.group(1).startswith("evaluate.models"):
            return UserError(
                "there is no such model",
                where=absent.group(1),
                fix="write it into an experiment file, as conf/experiment/paper_baselines.yaml does",
            )
        return _not_of_the_chosen(absent.group(1).replace("/", "."))
    unknown = re.search(r"[Kk]ey '([^']+)' (?:is )?not in", text)
    full_key = re.search(r"full_key: (\S+)", text)
    if needed := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return _must_be_given(needed.group(1))
    if unknown:
        key, known = full_key.group(1) if full_key else unknown.group(1), known_keys()
        return _not_of_the_chosen(key) if key in known else _unknown(key, known)
    cause = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    if error.__cause__ is not None and str(error.__cause__).strip():
        cause = str(error.__cause__).strip().splitlines()[0]
        full_key = full_key or re.search(r"full_key: (\S+)", str(error.__cause__))
    cause = re.sub(r"^\w+ raised while resolving interpolation: ", "", cause)
    where = full_key.group(1) if full_key else "config"
    given = dict(override.partition("=")[::2] for override in overrides).get(where)
    return wanted_type(cause, where, given) or UserError(cause, where=where, fix="correct this value")


def _not_of_the_chosen(key: str) -> UserError:
    """A key that another option of its group has: name the group, and those options."""
    places = [*_PLACES, *_VARIANTS]
    place = next((place for place in places if key.startswith(f"{place}.")), key.partition(".")[0])
    chosen = _options_with(place, key)
    parent, _, own = place.partition(".")
    if own and chosen:  # an engine of the teacher: it, too, is a key that not every teacher has
        outer = _options_with(parent, place)
        chosen += f" (with {outer})" if outer else ""
    fix = f"choose {chosen}, or leave {key} out" if chosen else f"leave {key} out"
    return UserError(f"the chosen {place} has no such key", where=key, fix=fix)


def _options_with(place: str, key: str) -> str:
    """place=A or place=B: the files of a group whose own schema has ``key``; empty where it has one schema."""
    group = _PLACES.get(place, place)
    variants = _VARIANTS.get(group, {})
    having = {name for name, node in variants.items() if key in _schema_keys(node, f"{place}.")}
    files = sorted({p for folder in _conf_folders() for p in (folder / group).glob("*.yaml")})
    names = [p.stem for p in files if any(f"- {name}_schema" in p.read_text() for name in having)]
    return " or ".join(f"{place}={name}" for name in dict.fromkeys(names))


def _must_be_given(*keys: str) -> UserError:
    """All of them at once: one a command would be as many commands."""
    problems = any("problems" in key for key in keys)
    kind = "; problems are files of JSON lines with the keys problem and expected_answer" if problems else ""
    what = "this value must be given" if len(keys) == 1 else "these values must be given"
    return UserError(what, where=", ".join(keys), fix=f"add {' '.join(f'{key}=VALUE' for key in keys)}{kind}")


def _explain_yaml(error: YAMLError) -> UserError:
    """What is wrong, and the file and line of it, where the parser tells."""
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else "config"
    return UserError(
        f"not YAML: {getattr(error, 'problem', None) or error}", where=where, fix="correct the file"
    )


def _unknown_option(name: str) -> UserError:
    """A choice that a config group does not have, such as experiment=quikstart."""
    group, _, option = name.rpartition("/")
    options = sorted({p.stem for folder in _conf_folders() for p in (folder / group).glob("*.yaml")})
    near = difflib.get_close_matches(option, options, n=1)
    hint = f"did you mean {group}={near[0]}?" if near else f"choose one of {', '.join(options)}"
    return UserError(f"there is no {option!r}", where=group or "conf", fix=hint)


def _conf_folders() -> list[Path]:
    extra = os.environ.get(EXTRA_CONF)
    return [CONF, Path(extra)] if extra else [CONF]
