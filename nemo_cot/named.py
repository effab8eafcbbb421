"""Values that the config gives for a dataclass, and classes that it names: one per module of a package, a frozen
dataclass whose fields are its keys.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

import msgspec

from nemo_cot.errors import UserError

T = TypeVar("T")


def names_in(package: ModuleType) -> list[str]:
    """The names of its modules, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load_named(
    package: ModuleType, class_name: str, name: object, values: Mapping[str, Any], *, key: str, what: str
) -> Any:
    """The class ``class_name`` of ``package``.``name`` with ``values``. Raises UserError for an unknown name,
    key or value: ``key`` is where it stands in the config, ``what`` the word for it.
    """
    names = names_in(package)
    if not isinstance(name, str) or name not in names:
        raise UserError(f"there is no {what} {name!r}", where=key, fix=f"choose among {', '.join(names)}")
    kind = getattr(importlib.import_module(f"{package.__name__}.{name}"), class_name)
    return converted(kind, group(key, values), key)


def converted(kind: type[T], values: Mapping[str, Any], key: str) -> T:
    """``values`` as the dataclass ``kind``. Raises UserError for unknown keys and wrong values: ``key`` is where they
    stand in the config.
    """
    names = [f.name for f in dataclasses.fields(kind)]
    known_keys(key, values, names)
    try:
        return msgspec.convert(dict(values), kind)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise UserError(f"{error}", where=key, fix=f"correct this value; its keys are {', '.join(names)}") from None


def group(key: str, values: Any) -> Mapping[str, Any]:
    """``values``. Raises UserError unless they are a group of keys."""
    if not isinstance(values, Mapping):
        raise UserError(f"{values!r} is not a group of keys", where=key, fix=f"set its keys, as in {key}.KEY=VALUE")
    return values


def known_keys(key: str, values: Iterable[str], names: Sequence[str]) -> None:
    """Raise UserError unless all ``values`` are among ``names``, the keys below ``key``."""
    if unknown := [name for name in values if name not in names]:
        raise UserError("unknown key", where=f"{key}.{unknown[0]}", fix=f"it has {', '.join(names)}")
