"""Compose conf/ with Hydra into the plain dataclasses of nemo_cot.config, with errors that help."""

from __future__ import annotations

import functools
import os
import re
import typing
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc
from yaml import YAMLError

from nemo_cot import config as schema
from nemo_cot.config.cluster import looks_secret
from nemo_cot.config.evaluate import SetConfig
from nemo_cot.config.overrides import hydra_quoted, hydra_value
from nemo_cot.config.prompts import PromptConfig, is_prompt_name
from nemo_cot.errors import UserError
from nemo_cot.experiment import groups, messages
from nemo_cot.experiment.files import Merged
from nemo_cot.experiment.graph import recipe_names
from nemo_cot.experiment.groups import CONF as CONF
from nemo_cot.experiment.groups import EXTRA_CONF as EXTRA_CONF
from nemo_cot.experiment.groups import PLACES, known_keys
from nemo_cot.experiment.messages import explain
from nemo_cot.experiment.typed import as_text, quoting, refuse_non_finite, text_override
from nemo_cot.io.paths import user_path
from nemo_cot.stages.manifest import flatten

_VARIABLE = re.compile(r"^cluster\.environment\.[A-Za-z_][A-Za-z0-9_]*$")
"""An entry of cluster.environment, which may be a new one."""


STUDY = "study"
STUDY_VERBS = "where VERB is run, plan, submit, status, cancel, compare or report"


def load_config(overrides: Sequence[str]) -> schema.Config:
    """The validated config of ``overrides``. Raises UserError that names the key and the fix."""
    return to_dataclasses(compose_config(overrides))


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The composed tree, typed by the schema. Raises UserError as :func:`load_config` does."""
    return Composer().tree(overrides)


class Composer:
    """Composes many configs in a row: files that several choose alike are read and merged once."""

    def __init__(self) -> None:
        self._chosen: dict[tuple[str, ...], Merged] = {}
        self._made: dict[int, object] = {}

    def config(self, overrides: Sequence[str]) -> schema.Config:
        """As :func:`load_config`. Parts that several configs take from the files as they are, they share."""
        try:
            return to_dataclasses(self._tree(overrides, shared=True), self._made)
        except (UserError, OmegaConfBaseException):  # wrong, or a value that reaches a shared part: see Merged
            return to_dataclasses(self.tree(overrides))

    def tree(self, overrides: Sequence[str]) -> DictConfig:
        """As :func:`compose_config`. Raises UserError."""
        return self._tree(overrides, shared=False)

    def _tree(self, overrides: Sequence[str], *, shared: bool) -> DictConfig:
        OmegaConf.register_new_resolver("oc.env", _environment_variable, replace=True)
        OmegaConf.register_new_resolver("recipes", recipe_names, replace=True)
        texts = [text_as_typed(text) for text in overrides]
        parsed = [parse_override(text) for text in texts]
        for override in parsed:
            _check_key(override)
        choices, values, sets = [], [], {}
        for text, override in zip(texts, parsed):
            if groups.SET_PROBLEMS.match(override.key_or_group):
                sets[override.key_or_group] = _placed(text, override)
            else:
                chosen = choices if groups.is_group(groups.group_of(override.key_or_group)) else values
                chosen.append(_placed(text, override))
        try:
            files = self._files(*choices)
            changed = {"prompts", *(["evaluate"] if sets else ()), *(o.key_or_group.partition(".")[0] for o in parsed)}
            tree = files.shared(changed) if shared else files.copy()
            for key, choice in sets.items():
                # The set need not be there yet.
                fill_set(tree, key, self._files(f"problems={choice.partition('=')[2]}").copy().problems)
            # What Hydra does with the values of a command line, once the files are merged.
            ConfigLoaderImpl._apply_overrides_to_config([parse_override(value) for value in values], tree)
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
            raise explain(error, overrides) from None
        keys = [override.key_or_group for override in parsed]
        if "pass_environment" not in tree.cluster and (found := next(filter(_VARIABLE.match, keys), None)):
            raise UserError(
                "no cluster is chosen", where=found, fix="add cluster=slurm_minimal, or leave it out"
            )
        _check_kinds(tree)
        _add_prompts(tree)
        for key in groups.entries(f"{groups.SETS}.problems", tree):
            problems = OmegaConf.select(tree, key, throw_on_missing=False)
            if problems is not None and OmegaConf.is_missing(problems, "train_path"):
                problems.train_path = None  # of a set only the held-out problems are asked for
        return tree

    def _files(self, *choices: str) -> Merged:
        if choices not in self._chosen:
            GlobalHydra.instance().clear()
            with initialize_config_dir(str(CONF), version_base="1.3"):
                tree = compose(groups.register(), overrides=[*_search_path(), *choices])
            self._chosen[choices] = Merged(tree)
        return self._chosen[choices]


def fill_set(tree: DictConfig, key: str, problems: DictConfig) -> None:
    """Make ``problems`` those of ``key``, evaluate.sets.NAME.problems; the set need not be there yet."""
    sets, name = tree.evaluate.sets, key.split(".")[2]
    if name not in sets:
        with open_dict(sets):
            sets[name] = OmegaConf.structured(SetConfig)
    sets[name].problems = problems


def to_dataclasses(tree: DictConfig, made: dict[int, object] | None = None) -> schema.Config:
    """``tree`` as dataclasses; their own checks run here. ``made``: what shared parts of trees were made into, by id."""
    made = {} if made is None else made
    try:
        try:
            nodes = {key: tree._get_node(key) for key in tree}
            parts = {key: made.get(id(node)) or _object(tree[key]) for key, node in nodes.items()}
            cfg = OmegaConf.get_type(tree)(**parts)
        except (UserError, OmegaConfBaseException):
            _refuse_open_ones(tree)
            for key in groups.entries(f"{groups.SETS}.problems", tree):
                _check_set(tree, key)
            raise
        new = {key: part for key, part in parts.items() if id(nodes[key]) not in made}
        refuse_non_finite(new)
        made |= {id(nodes[key]): part for key, part in new.items() if nodes[key]._get_node_flag("readonly")}
        return cfg
    except OmegaConfBaseException as error:
        raise explain(error) from None


def _object(value: object) -> object:
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _refuse_open_ones(tree: DictConfig) -> None:
    """Raise the error that says more than the one of the value that came first: all values that must be given at once
    (missing_keys stops at a ${MISSING}), a value that is no number, the key of an interpolation that leads nowhere.
    """
    if missing := missing_keys(tree):
        raise messages.must_be_given(*sorted(missing))
    refuse_non_finite(OmegaConf.to_container(tree, resolve=False))
    OmegaConf.missing_keys(tree)


def missing_keys(tree: DictConfig) -> list[str]:
    """Keys without a value. OmegaConf's own function stops at one that is another's ${value}."""
    plain = OmegaConf.to_container(tree, resolve=False)
    return [key for key, value in flatten(plain).items() if value == MISSING]


def _check_set(tree: DictConfig, key: str) -> None:
    """Raise UserError as the problems of ``key`` do, who know themselves as problems."""
    try:
        OmegaConf.to_object(OmegaConf.select(tree, key))
    except UserError as error:
        where, fix = (re.sub(r"\bproblems\.", f"{key}.", text) for text in (error.where, error.fix))
        raise UserError(error.what, where=where, fix=fix) from None


def to_yaml(tree: DictConfig) -> str:
    """The resolved tree as YAML, as ``show`` prints it and the run directory keeps it; read back, it is the same.

    ``cluster`` comes last, so that a file that was cut short lacks it.
    """
    plain = typing.cast(dict, as_text(OmegaConf.to_container(tree, resolve=True)))
    plain["cluster"] = plain.pop("cluster")
    return OmegaConf.to_yaml(plain)


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


def _search_path() -> list[str]:
    extra = os.environ.get(EXTRA_CONF)
    if not extra:
        return []
    if not Path(extra).is_dir():
        raise UserError(
            "no such directory", where=f"{EXTRA_CONF}={extra}", fix=f"correct or unset {EXTRA_CONF}"
        )
    return [f"hydra.searchpath=[{hydra_quoted(f'file://{Path(extra).resolve()}')}]"]


def text_as_typed(override: str) -> str:
    """``override`` with its text quoted, where the key holds text."""
    key = override.partition("=")[0]
    return text_override(override) if _VARIABLE.match(key) or groups.holds_text(key) else override


def _placed(override: str, parsed: Override) -> str:
    """``override`` as Hydra takes it: a variable is added, a file of another group is named with its place, and
    one's own file, PATH.yaml, by its way from the group's folder.
    """
    key, _, value = override.partition("=")
    if _may_be_new(key.lstrip("+")):
        return f"++{override.lstrip('+')}"
    group, chosen = groups.group_of(key), parsed.value()
    if groups.is_group(group) and isinstance(chosen, str) and chosen.endswith(".yaml"):
        path = user_path(chosen)
        if not path.is_file():
            raise UserError(
                "no such file", where=f"{key}={chosen}", fix="correct the path; a choice by name has no .yaml"
            )
        value = hydra_value(os.path.relpath(path.resolve(), CONF / group))
    return f"{key}={value}" if group == key else f"{group}@{key}={value}"


def _may_be_new(key: str) -> bool:
    return _VARIABLE.match(key) is not None or groups.is_open(key)


@functools.lru_cache(maxsize=4096)
def parse_override(text: str) -> Override:
    """``text`` by Hydra's grammar. Raises UserError that shows how to quote it."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        raise _not_an_override(text) from None


def _not_an_override(text: str) -> UserError:
    key, equals, value = text.partition("=")
    if not equals:
        named = re.fullmatch(r"[\w.-]+", text) and [g for g in ("experiment", STUDY) if groups.file_of(f"{g}/{text}")]
        fix = f"write {named[0]}={text}" if named else "write key=value, as in train.optim.lr=5e-6"
        return UserError("is not an override", where=repr(text), fix=fix)
    if not _may_be_new(key.lstrip("+")) and groups.without_entry(key) not in known_keys():
        return messages.unknown_key(key)
    return UserError("is not an override", where=repr(text), fix=quoting(key, value))


def _check_key(override: Override) -> None:
    """Refuse what the schema does not know before Hydra sees it, naming the nearest key."""
    key = override.key_or_group
    if re.match(r"hydra[./]", key):
        raise messages.hydras_own(override.input_line or key)
    if override.is_sweep_override():
        raise UserError(
            "sweeps several values", where=key, fix="add --multirun to `nemo-cot run` or `nemo-cot submit`"
        )
    if key == STUDY:
        raise UserError("a study is no part of one run", where=STUDY, fix=f"nemo-cot VERB study=NAME, {STUDY_VERBS}")
    added = override.is_add() or override.is_force_add()
    if override.is_delete() or (added and not groups.is_open(key)):
        raise UserError(
            "keys cannot be added or deleted",
            where=override.input_line or key,
            fix="set an existing key: key=value",
        )
    if key == "cluster.environment":
        raise UserError(
            "is set one variable at a time", where=key, fix="write cluster.environment.NAME=VALUE for each"
        )
    if _may_be_new(key):
        return
    if groups.without_entry(key) not in known_keys():
        raise messages.unknown_key(key)
    if key.startswith(f"{groups.SETS}.") and key in PLACES:
        raise UserError("names no set", where=key, fix=f"write {groups.SETS}.NAME.problems={override.value()}")
    if groups.without_entry(key) in groups.BY_CHOICE:
        raise messages.comes_with_the_choice(key, override.value())
    if key in PLACES.values() and key not in groups.KINDS:
        places = [place for place, group in PLACES.items() if group == key]
        raise UserError("is no key of its own", where=key, fix=f"set {' or '.join(places)}")
    group = groups.group_of(key)
    if groups.is_group(group) and not isinstance(override.value(), str):
        value = override.get_value_element_as_str()
        raise messages.unknown_option(f"{group}/{value}", {key: value})


def _check_kinds(tree: DictConfig) -> None:
    """Refuse a file that sets a kind without choosing it: train.backend=nemo_rl in the config of the local trainer."""
    for place, kind in groups.KINDS.items():
        for key in groups.entries(place, tree):
            node = OmegaConf.select(tree, key, throw_on_missing=False)
            if node is not None and groups.variants_of(place).get(node[kind]) is not OmegaConf.get_type(node):
                raise messages.comes_with_the_choice(f"{key}.{kind}", node[kind])


def _add_prompts(tree: DictConfig) -> None:
    """Fill ``prompts`` with the files of conf/prompt that are named. Raises UserError where there is none."""
    named = {"teacher.prompt": OmegaConf.select(tree, "teacher.prompt", throw_on_missing=False)}
    for number, one in enumerate(tree.refine.passes):
        if isinstance(one, DictConfig):
            named[f"refine.passes[{number}].prompt"] = one.get("prompt")
    for key, name in named.items():
        if not isinstance(name, str) or not is_prompt_name(name):
            continue
        path = groups.file_of(f"prompt/{name}")
        if path is None:
            known = ", ".join(file.stem for file in groups.files_of("prompt"))
            raise UserError(f"there is no prompt {name!r}", where=key, fix=f"choose among {known}, or add conf/prompt/{name}.yaml")
        try:
            prompt = OmegaConf.merge(OmegaConf.structured(PromptConfig), OmegaConf.load(path))
            OmegaConf.to_container(prompt, resolve=True, throw_on_missing=True)
        except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
            raise UserError(str(error).splitlines()[0], where=str(path), fix="write it as conf/prompt/plain.yaml") from None
        OmegaConf.update(tree, f"prompts.{name}", prompt, force_add=True)
