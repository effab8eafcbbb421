"""Verbs about a run that there is: their arguments, and the run."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from nemo_cot.errors import UserError
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
    found = next((p for p in (below / name, user_path(name)) if name and p.is_dir()), None)
    if found is not None:
        return RunDirectory(found)
    known = sorted(p.name for p in below.glob("*") if p.is_dir())
    near = difflib.get_close_matches(name, known, n=1)
    fix = (
        f"did you mean {near[0]}?"
        if near
        else "give the name of a run there, or a path; runs_dir=DIR names another"
    )
    raise UserError("no such run", where=f"{name} (below {below})", fix=fix)
