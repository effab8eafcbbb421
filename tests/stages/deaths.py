"""A process that dies between two of its calls, for tests of what it leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import pytest


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


def die_at(monkeypatch: pytest.MonkeyPatch, moment: int, calls: Sequence[tuple[ModuleType, str]]) -> None:
    """Die before the call, numbered ``moment``, of the functions ``calls``, which are counted together."""
    number = iter(range(1000))

    def counted(call):
        def wrapper(*arguments, **options):
            if next(number) == moment:
                raise Killed
            return call(*arguments, **options)

        return wrapper

    for module, name in calls:
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
