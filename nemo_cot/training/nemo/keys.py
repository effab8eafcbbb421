"""The keys of a backend's own config, as recorded in its package (keys.txt), and those that our rules rest on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_cot.training.nemo.rendered import ADDED

_OPEN = ".*"


@dataclass(frozen=True)
class Keys:
    """``known``: every dotted key. ``open_below``: keys below which any other may stand.

    ``ours``: keys, or beginnings of keys, whose values come from our own config and are what our rules and
    estimates go by -> our key.
    """

    known: frozenset[str]
    open_below: tuple[str, ...]
    ours: Mapping[str, str]

    def has(self, key: str) -> bool:
        """Whether the backend knows it, itself or as a section."""
        section = f"{key}."
        return (
            key in self.known
            or any(key == name or key.startswith(f"{name}.") for name in self.open_below)
            or any(name.startswith(section) for name in self.known)
        )

    def nearest(self, key: str) -> str | None:
        """The known key that is most like it: of the same last part elsewhere, or spelled alike."""
        last = key.rpartition(".")[2]
        same = [name for name in sorted(self.known) if name.rpartition(".")[2] == last]
        near = difflib.get_close_matches(key, same, n=1, cutoff=0.0) or same
        near = near or difflib.get_close_matches(key, sorted(self.known), n=1, cutoff=0.85)
        return near[0] if near else None

    def our_key(self, key: str) -> str | None:
        """Our key that decides it, where rules rest on that."""
        found = [
            name
            for name in self.ours
            if key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.")
        ]
        return self.ours[max(found, key=len)] if found else None


def read_keys(path: Path, ours: Mapping[str, str]) -> Keys:
    """The recorded keys of ``path``, one per line; KEY.* is open below KEY, # begins a comment."""
    lines = map(str.strip, path.read_text().splitlines())
    known = [line for line in lines if line and not line.startswith("#")]
    return Keys(
        frozenset(name for name in known if not name.endswith(_OPEN)),
        tuple(name.removesuffix(_OPEN) for name in known if name.endswith(_OPEN)),
        ours,
    )


def meant(key: str) -> bool:
    """Whether the user says that the key is there, though the record does not have it."""
    return key.startswith(ADDED)
