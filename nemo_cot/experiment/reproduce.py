"""From a run's config back to a command: what differs from the defaults, and the overrides that give it
again.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_cot.config import Config
from nemo_cot.config.overrides import hydra_value
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import Composer, missing_keys
from nemo_cot.experiment.groups import KINDS, content, entries, files_of, group_of, without_entry
from nemo_cot.report.results import ChangedKey
from nemo_cot.stages.manifest import flatten

_ABSENT = "absent"


def differing(
    cfg: Config, *, experiments: bool, composer: Composer | None = None
) -> tuple[list[str], dict[str, tuple[Any, Any]]]:
    """The chosen files of the config groups, as overrides, with the experiment that fits if ``experiments``,
    and the keys that have another value than there: key -> (value, that of the files).
    """
    plain, composer = dataclasses.asdict(cfg), composer or Composer()
    own = flatten(plain)
    chosen = _experiment(composer, own) if experiments else []
    known = set(_choices(_defaults(composer, chosen, own)[0]))
    choices = chosen + [choice for choice in _choices(plain) if choice not in known]
    found, missing = _defaults(composer, choices, own)
    defaults = {**flatten(found), **dict.fromkeys(missing, MISSING)}
    # prompts are the files of conf/prompt that other keys name.
    keys = [key for key in own if own[key] != defaults.get(key, _ABSENT) and not key.startswith("prompts.")]
    return choices, {key: (own[key], defaults.get(key, _ABSENT)) for key in keys}


def _defaults(
    composer: Composer, choices: list[str], own: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The values of the files, and the keys that they leave open, which others may take up: there ``own``
    stands in.
    """
    tree = composer.tree(choices)
    missing = missing_keys(tree)
    for key in missing:
        OmegaConf.update(tree, key, own.get(key))
    return typing.cast(dict, OmegaConf.to_container(tree, resolve=True)), missing


def command(choices: list[str], changed: Mapping[str, tuple[Any, Any]]) -> str:
    """`nemo-cot run` with the overrides, one per line; "" if a value cannot be written as one, or belongs to
    a model of evaluate.models that only a file can add.
    """
    if any(
        default == _ABSENT and key.startswith("evaluate.models.") for key, (_, default) in changed.items()
    ):
        return ""
    try:
        overrides = [f"{key}={_written(value)}" for key, (value, _) in changed.items()]
    except UserError:
        return ""
    return " \\\n  ".join(["nemo-cot run", *map(_quoted, [*choices, *overrides])])


def origin(cfg: Config) -> tuple[str, list[ChangedKey]]:
    """The command that gives ``cfg``, and what of it differs from the defaults, for reports; nothing for a
    config whose files are not there any more.
    """
    composer = Composer()
    try:
        _, changed = differing(cfg, experiments=False, composer=composer)
        shown = [ChangedKey(key, value, default) for key, (value, default) in changed.items()]
        return command(*differing(cfg, experiments=True, composer=composer)), shown
    except (UserError, OmegaConfBaseException):
        return "", []


def overrides_of(cfg: Config) -> list[str]:
    """The overrides of :func:`command`, as a program passes them. Raises UserError as hydra_value."""
    choices, changed = differing(cfg, experiments=True)
    return [*choices, *(f"{key}={_written(value)}" for key, (value, _) in changed.items())]


def _experiment(composer: Composer, own: Mapping[str, Any]) -> list[str]:
    """The experiment whose every value and variant the config has; of several the one that says most. None,
    where none fits.
    """
    found = []
    for path in files_of("experiment"):
        held = flatten(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
        said = {k: v for k, v in held.items() if k not in ("defaults", "name") and not _is_open(v)}
        if said and all(own.get(key, _ABSENT) == value for key, value in said.items()):
            found.append((len(said), path.stem))
    keys = [f"{place}.{key}" for place, key in KINDS.items()]
    for _, stem in sorted(found, reverse=True):
        tree = composer.tree([f"experiment={stem}"])
        if all(OmegaConf.select(tree, key) == own.get(key) for key in keys):
            return [f"experiment={stem}"]
    return []


def _is_open(value: Any) -> bool:
    """Whether the file leaves it to others: ??? and ${...}."""
    return isinstance(value, str) and (value == MISSING or "${" in value)


def _choices(plain: Mapping[str, Any]) -> Iterator[str]:
    """The file of each group whose schema depends on it, and the model's."""
    for place, key in KINDS.items():
        for own in entries(place, plain):
            node: Any = plain
            for part in own.split("."):
                node = (node or {}).get(part)
            if node and node.get(key) is not None and (name := _file_of(own, node)):
                yield f"{own}={name}"
    named = {
        path.stem: OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in files_of("model")
    }
    same = {stem: own["name"] for stem, own in named.items() if own.get("source") == plain["model"]["source"]}
    fits = [stem for stem, name in same.items() if name == plain["model"]["name"]]
    yield from [f"model={stem}" for stem in fits or [stem for stem, name in same.items() if _is_open(name)]][
        :1
    ]


def _file_of(place: str, node: Mapping[str, Any]) -> str | None:
    """Of the files that give this variant the one with the most values of ``node``; its name's before others."""
    kind = node[KINDS[without_entry(place)]]
    mark, own = f"- {kind}_schema".encode(), flatten(node)
    best: tuple[int, bool, str] | None = None
    for path in files_of(group_of(place)):
        if mark not in content(path):
            continue
        held = flatten(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
        score = (
            sum(own.get(key, _ABSENT) == value for key, value in held.items()),
            path.stem == kind,
            path.stem,
        )
        best = max(best, score) if best else score
    return best[-1] if best else None


def _written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_written(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_written(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return hydra_value(value)


_PLAIN = re.compile(r"/?[A-Za-z_][A-Za-z0-9_./-]*|\d\d:\d\d:\d\d")
_WORDS = ("null", "true", "false", "nan", "inf", "infinity", "yes", "no", "on", "off")
"""Text that Hydra takes as it stands, and words that it would take for something else."""


def _quoted(override: str) -> str:
    """For bash; bare where that is safe."""
    if "\n" in override:
        text = override.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        return f"$'{text}'"
    return shlex.quote(override)
