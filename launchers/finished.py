"""Verbs about a run that there is: their arguments, and the run."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.errors import UserError, nearest
from nemo_cot.io.paths import user_path
from nemo_cot.stages import RunDirectory


class Arguments(argparse.ArgumentParser):
    """``nemo-cot VERB RUN ... [options] [runs_dir=DIR]``; mistakes are UserErrors with the usage as the fix."""

    def __init__(self, verb: str, usage: str) -> None:
        super().__init__(prog=f"nemo-cot {verb}", usage=usage, add_help=False, allow_abbrev=False)
        self.add_argument("run")

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(message, where=self.prog, fix=f"{self.prog} {self.usage}")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options, and ``runs_dir``: None unless it is given."""
        own = [a for a in arguments if a.startswith("runs_dir=")]
        found = self.parse_args([a for a in arguments if a not in own])
        found.runs_dir = own[-1].partition("=")[2] if own else None
        return found


def open_run(name: str, runs_dir: str | None) -> RunDirectory:
    """The run of that name below ``runs_dir`` (None: where runs are by default), or at that path.

    Raises UserError, naming the nearest, without one.
    """
    if runs_dir is None and not user_path(name).is_dir():
        from nemo_cot.experiment.compose import load_config

        runs_dir = load_config([]).runs_dir
    below = user_path(runs_dir) if runs_dir is not None else user_path(name).parent
    if (found := _folder(name, below)) is None:
        raise _no_such_run(name, name, below)
    return RunDirectory(found)


def run_and_part(text: str, runs_dir: str, *, what: str = "run") -> tuple[RunDirectory, str]:
    """RUN or RUN:PART, where RUN is a name below ``runs_dir`` or a path; the part may be empty. Raises UserError."""
    before, _, part = text.rpartition(":")
    below = user_path(runs_dir)
    for name, own in ((text, ""), *([(before, part)] if part else [])):
        if found := _folder(name, below):
            return RunDirectory(found), own
    raise _no_such_run(text, before or text, below, what)


def _folder(name: str, below: Path) -> Path | None:
    return next((path for path in (below / name, user_path(name)) if name and path.is_dir()), None)


def _no_such_run(text: str, name: str, below: Path, what: str = "run") -> UserError:
    known = sorted(path.name for path in below.glob("*") if path.is_dir())
    fix = nearest(name, known, "give the name of a run there, or a path; runs_dir=DIR names another directory")
    return UserError(f"no such {what}", where=f"{text} (below {below})", fix=fix)


_OVERRIDE = re.compile(r"([a-z_]+(?:\.\w+)*)=")


@dataclass
class Given:
    """The arguments of a verb about several runs: ``names`` of runs and files, Hydra's overrides, and options."""

    names: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


def split_arguments(
    arguments: Sequence[str], verb: str, *, options: Sequence[str], keys: Sequence[str] | None = None
) -> Given:
    """``arguments`` by their kinds; every option takes a value. ``keys`` that may be set, a group's name for all of
    its keys; None: any, which Hydra checks. What is there as a file or folder is a name, though it holds a "=".

    Raises UserError, naming the nearest, for an option or key that the verb does not have.
    """
    found, rest = Given(), list(arguments)
    while rest:
        argument = rest.pop(0)
        option, equals, value = argument.partition("=")
        if option in options:
            if not equals and rest:
                value = rest.pop(0)
            if not value:
                raise UserError(f"{option} needs a value", where=verb, fix=f"{option} VALUE")
            found.options[option] = value
        elif argument.startswith("-"):
            raise _unknown("option", option, [*options, "--help"], verb)
        elif os.path.exists(user_path(argument)) or not (equals if keys is None else _OVERRIDE.match(argument)):
            found.names.append(argument)
        elif keys is not None and option not in keys and option.partition(".")[0] not in keys:
            raise _unknown("key", f"{option}=", [f"{known}=" for known in keys], verb)
        else:
            found.overrides.append(argument)
    return found


def as_overrides(given: Given, verb: str) -> list[str]:
    """The overrides of ``verb [RUN] [key=value ...]``, with RUN, a name or a path, as name= (and runs_dir=). Raises
    UserError for several runs, or one beside a name=.
    """
    if not given.names:
        return given.overrides
    run, name = given.names[0], next((o for o in given.overrides if o.startswith("name=")), None)
    if name or len(given.names) > 1:
        what = f"both the run {run} and {name or given.names[1]} are given"
        raise UserError(what, where=verb, fix="name one of them")
    path = user_path(run)
    if "/" not in run.strip("/"):
        return [f"name={run}", *given.overrides]
    return [f"name={path.name}", f"runs_dir={hydra_quoted(str(path.parent))}", *given.overrides]


def output_file(text: str) -> Path:
    """Raise UserError for a file that cannot be written."""
    path = user_path(text)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a directory, not a file" if path.is_dir() else "its directory does not exist"
        raise UserError(what, where=str(path), fix="name a file in a directory that exists")
    return path


def _unknown(what: str, name: str, known: Sequence[str], verb: str) -> UserError:
    fix = nearest(name, known, f"use one of {', '.join(known)}")
    return UserError(f"takes no {what} {name}", where=verb, fix=fix)
