"""Classes that the config names: one per module of a package, a frozen dataclass whose fields are its
keys.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nemo_cot.config.checks import converted, group
from nemo_cot.errors import UserError


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
