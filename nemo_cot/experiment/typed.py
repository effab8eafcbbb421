"""Overrides as they are typed: text that looks like a number, the quoting that works, the type that is wanted."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from collections.abc import Iterator
from typing import Any

from omegaconf.errors import GrammarParseError, InterpolationKeyError, UnsupportedInterpolationType

from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.errors import UserError

_PLAIN = re.compile(r"[\w.+\-/:@%~=]+(?: +[\w.+\-/:@%~=]+)*")
"""What can mean only itself. Hydra's grammar knows no letters beyond ASCII, and no = in a value."""
_NOT_CONVERTED = re.compile(
    r"Value '(.*)' of type '\w+' could not be converted to (Integer|Float)", re.DOTALL
)
_NOT_BOOL = re.compile(r"Value '(.*)' is not a valid bool", re.DOTALL)
_NOT_A_LIST = "is not a ListConfig"
_NOT_OPTIONAL = "is not Optional"
_NOT_A_GROUP = re.compile(r"Invalid type assigned: \w+ is not a subclass of")


def text_override(override: str) -> str:
    """``override`` of a key that holds text, with plain text quoted: name=1e5 is no number."""
    key, _, value = override.partition("=")
    if value.lower() == "null" or not _PLAIN.fullmatch(value):
        return override
    return f"{key}={hydra_quoted(value)}"


def quoting(key: str, value: str) -> str:
    """How to write ``value``, which Hydra did not understand, on a shell's command line."""
    is_list = value.startswith("[") and value.endswith("]")
    parts = [p.strip().strip("'\"") for p in value[1:-1].split(",")] if is_list else [value]
    if any(set("'\"\\\n") & set(part) for part in parts):
        return "quote it twice, for the shell and for Hydra: 'key=\"a b\"'"
    quoted = ", ".join(f'"{part}"' for part in parts)
    return "write " + shlex.quote(f"{key}=[{quoted}]" if is_list else f"{key}={quoted}")


def wanted_type(cause: str, key: str, given: str | None) -> UserError | None:
    """The error for a value of the wrong type, out of OmegaConf's own words; None for another error.

    ``given``: the value on the command line, None if it came from a file.
    """
    if found := _NOT_CONVERTED.search(cause):
        value, kind = found.groups()
        what = "an integer" if kind == "Integer" else "a number"
        return UserError(
            f"{value} is not {what}", where=key, fix=f"give {what}, such as {_example(value, kind)}"
        )
    if found := _NOT_BOOL.search(cause):
        return UserError(f"{found[1]} is neither true nor false", where=key, fix=f"{key}=true or {key}=false")
    if _NOT_A_LIST in cause:
        return UserError("takes a list", where=key, fix=f"write a list: {key}=[{given or 'a,b'}]")
    if _NOT_OPTIONAL in cause:
        return UserError("cannot be null", where=key, fix="give a value, or leave the key out")
    if _NOT_A_GROUP.search(cause):
        return UserError(
            "is a group of keys, not a value", where=key, fix=f"set one of them: {key}.KEY=VALUE"
        )
    return None


def not_filled_in(error: Exception, cause: str, key: str) -> UserError | None:
    """The error for a ${ in the text of ``key`` that leads nowhere; None for another error."""
    kinds = (InterpolationKeyError, UnsupportedInterpolationType, GrammarParseError)
    if not isinstance(error, kinds) and not isinstance(error.__cause__, kinds):
        return None
    fix = r"where it is meant as text, as in LaTeX, write \${ (within $'...' \\${); else name a key"
    return UserError(f"${{ fills in the value of a key: {cause}", where=key, fix=fix)


def _example(value: str, kind: str) -> str:
    """1e3 is a float to Hydra, as in YAML: the integer that it stands for."""
    if kind == "Float":
        return "1e-5"
    try:
        number = float(value)
    except ValueError:
        return "1000"
    return str(int(number)) if math.isfinite(number) and number >= 1 else "1000"


def refuse_non_finite(tree: Any, key: str = "") -> None:
    """Raise UserError for the first inf or nan in ``tree`` (dicts, lists and dataclasses), naming its key."""
    for inner, value in _children(tree, key):
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(
                f"{value} is not a finite number", where=inner, fix=f"give {inner} a finite number"
            )
        refuse_non_finite(value, inner)


def _children(tree: Any, key: str) -> Iterator[tuple[str, Any]]:
    tree = vars(tree) if dataclasses.is_dataclass(tree) else tree
    if isinstance(tree, dict):
        yield from ((f"{key}.{name}" if key else str(name), value) for name, value in tree.items())
    elif isinstance(tree, list):
        yield from ((f"{key}[{index}]", value) for index, value in enumerate(tree))


def as_text(tree: Any) -> Any:
    """``tree`` (dicts and lists) with every ${ in its texts escaped, so that OmegaConf reads them back as they are."""
    if isinstance(tree, dict):
        return {key: as_text(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [as_text(value) for value in tree]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", tree) if isinstance(tree, str) else tree
