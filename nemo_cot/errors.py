"""Errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterable

EXIT_CODE = 2
"""Exit code of a command that ended with a :class:`UserError`. A traceback, a bug, exits with 1."""

FAULT = 3
"""Exit code of a command that ended with a :class:`Fault`."""

UNFINISHED = 75
"""Exit code of work that stopped cleanly with its state saved: the same command resumes (EX_TEMPFAIL)."""


class UserError(Exception):
    """Bad input or a bad environment: what is wrong, where, and how to fix it, in one line.

    Command lines print it as ``error: WHERE: WHAT. Fix: FIX`` and exit with :data:`EXIT_CODE`,
    without a traceback. Line breaks in the parts are folded, so that untrusted text (a file
    name, a value from a file) cannot forge lines of output.
    """

    exit_code = EXIT_CODE

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = one_line(what)
        self.where = one_line(where)
        self.fix = one_line(fix)
        super().__init__(self.what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f". Fix: {self.fix}" if self.fix else ""
        return f"{place}{self.what.rstrip('.')}{remedy}"

    def __reduce__(self):
        """Pickle all three parts, so that the error survives a worker process."""
        return _rebuild, (type(self), self.what, self.where, self.fix)


class Fault(UserError):
    """A machine or a server failed, not the user. The same command may succeed later, and resumes."""

    exit_code = FAULT


class Unfinished(UserError):
    """Not an error: the work stopped early, at a signal or a time limit, and can resume."""

    exit_code = UNFINISHED


def nearest(name: str, known: Iterable[str], otherwise: str, *, before: str = "") -> str:
    """The fix for an unknown name: the one of ``known`` that is most like it, with ``before`` in front, else what to do
    ``otherwise``.
    """
    import difflib  # of a start that has no error, nothing waits for it

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {before}{near[0]}?" if near else otherwise


def one_line(text: str) -> str:
    """Fold line breaks and drop control characters (terminal escapes among them)."""
    folded = " ".join(str(text).split())
    return "".join(c for c in folded if c.isprintable())


def _rebuild(cls: type[UserError], what: str, where: str, fix: str) -> UserError:
    return cls(what, where=where, fix=fix)
