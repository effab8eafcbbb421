"""From a run's config back to a command: what differs from the defaults, and the overrides that give it again."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from nemo_cot.config import Config
from nemo_cot.config.overrides import hydra_value
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import compose_config
from nemo_cot.experiment.groups import KINDS, PLACES, content, files_of
from nemo_cot.report.results import ChangedKey
from nemo_cot.stages.manifest import flatten

_ABSENT = "absent"


def differing(cfg: Config) -> tuple[list[str], dict[str, tuple[Any, Any]]]:
    """The chosen files of the config groups, as overrides, and the keys that have another value than there:
    key -> (value, that of the files).
    """
    plain = dataclasses.asdict(cfg)
    root = OmegaConf.to_container(compose_config([]), resolve=True)
    choices = [choice for choice in _choices(plain) if choice not in set(_choices(root))]
    defaults = flatten(OmegaConf.to_container(compose_config(choices), resolve=True))
    own = flatten(plain)
    keys = [key for key in own if own[key] != defaults.get(key, _ABSENT)]
    return choices, {key: (own[key], defaults.get(key, _ABSENT)) for key in keys}


def command(choices: list[str], changed: Mapping[str, tuple[Any, Any]]) -> str:
    """`nemo-cot run` with the overrides, one per line; "" if a value cannot be written as one."""
    try:
        overrides = [f"{key}={_written(value)}" for key, (value, _) in changed.items()]
    except UserError:
        return ""
    return " \\\n  ".join(["nemo-cot run", *map(_quoted, [*choices, *overrides])])


def origin(cfg: Config) -> tuple[str, list[ChangedKey]]:
    """The command that gives ``cfg``, and what of it differs from the defaults, for reports."""
    choices, changed = differing(cfg)
    return command(choices, changed), [
        ChangedKey(key, value, default) for key, (value, default) in changed.items()
    ]


def overrides_of(cfg: Config) -> list[str]:
    """The overrides of :func:`command`, as a program passes them. Raises UserError as hydra_value."""
    choices, changed = differing(cfg)
    return [*choices, *(f"{key}={_written(value)}" for key, (value, _) in changed.items())]


def _choices(plain: Mapping[str, Any]) -> Iterator[str]:
    """The file of each group whose schema depends on it, and the model's."""
    for place, key in KINDS.items():
        node: Any = plain
        for part in place.split("."):
            node = (node or {}).get(part)
        if node and node.get(key) is not None and (name := _file_of(place, node)):
            yield f"{place}={name}"
    for path in files_of("model"):
        own = OmegaConf.to_container(OmegaConf.load(path))
        if own.get("name") == plain["model"]["name"] and own.get("source") == plain["model"]["source"]:
            yield f"model={path.stem}"
            return
    if plain["model"]["source"] == "hf_directory":
        yield "model=hf_directory"


def _file_of(place: str, node: Mapping[str, Any]) -> str | None:
    """Of the files that give this variant the one with the most values of ``node``; its name's before others."""
    kind = node[KINDS[place]]
    mark, own = f"- {kind}_schema".encode(), flatten(node)
    best: tuple[int, bool, str] | None = None
    for path in files_of(PLACES.get(place, place)):
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
