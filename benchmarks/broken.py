"""Ways to break a file, a folder and an override: what benchmarks/faults.py draws from."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

_VALUES = (
    "", "null", "[]", "{}", "-1", "0", "nan", "inf", "1e999", "true", "''", "${x}", "${oc.env:NO_SUCH}", "${name}", "[1,",
    "{a: 1}", "[[1]]", "../x", "/", "~", "a" * 300, "\udce9", "\u00e9", "\n", "1.5", str(10**30), "'", "$(id)", "a=b", "???",
    "/no/such/place", "/dev/null", "%s", "{problem}", "\x1b[2J", "0x10", "1_000", "2026-01-01", "!!python/object:os.system",
)  # fmt: skip


def mangled(draw: random.Random, given: Sequence[str], config: Path) -> str:
    """Mostly a hostile value of a key of ``given`` or of ``config``; else a hostile override."""
    keys = [text.partition("=")[0] for text in given]
    if draw.random() < 0.7:
        keys = sorted(_dotted(yaml.safe_load(config.read_text())))
    key, value = draw.choice(keys), draw.choice(_VALUES)
    if draw.random() < 0.75:
        return f"{key}={value}"
    others = [
        f"~{key}",
        f"+{key}={value}",
        f"++{key}={value}",
        key,
        f"={value}",
        f"{key[:-1]}={value}",
        value,
    ]
    return draw.choice([*others, f"{key}.x={value}"])


def _dotted(tree: dict, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")


def break_path(path: Path, draw: random.Random) -> str:
    """Break a file or a folder in one of many ways; how."""
    if path.is_dir():
        ways: list[Callable[[Path, random.Random], object]] = [_remove, _lock, _file, _dangle, _loop]
    else:
        ways = [
            _cut, _cut, _empty, _noise, _flip, _flip, _replace, _replace, _retype, _retype, _retype, _nest, _latin,
            _remove, _lock, _directory, _dangle, _loop,
        ]  # fmt: skip
    way = draw.choice(ways)
    detail = way(path, draw)
    return way.__name__.strip("_") + (f" {detail}" if detail is not None else "")


def _cut(path: Path, draw: random.Random) -> object:
    content = path.read_bytes()
    at = draw.randrange(len(content) + 1)
    path.write_bytes(content[:at])
    return at


def _empty(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def _noise(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(draw.randrange(1, 2000)))


def _flip(path: Path, draw: random.Random) -> object:
    content = bytearray(path.read_bytes() or b"0")
    at = draw.randrange(len(content))
    content[at] = draw.randrange(256)
    path.write_bytes(content)
    return at


def _replace(path: Path, draw: random.Random) -> object:
    whole = draw.choice(
        ["[]", "[1, 2]", "{}", "7", "-1e999", "null", "true", '"text"', "NaN", "[[]]", '{"a": {"a": [null]}}']
    )
    path.write_text(whole + "\n")
    return whole


def _retype(path: Path, draw: random.Random) -> object:
    """One value of a JSON or YAML file (of a line of it) becomes one of another type."""
    lines = path.read_bytes().splitlines(keepends=True)
    single = path.suffix == ".jsonl" and lines
    at = draw.randrange(len(lines)) if single else 0
    text = lines[at] if single else b"".join(lines)
    try:
        tree = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (ValueError, yaml.YAMLError):
        return _flip(path, draw)
    places = list(_places(tree))
    if not places:
        return _replace(path, draw)
    node, key = draw.choice(places)
    other = draw.choice(
        [None, [], {}, -1, 1.5, 10**30, "", "text", "\ud800", True, [[1]], {"a": 1}, "../../x", 1e308]
    )
    node[key] = other
    made = json.dumps(tree).encode() + b"\n"
    path.write_bytes(b"".join([*lines[:at], made, *lines[at + 1 :]]) if single else made)
    return f"{key}: {other!r}"


def _places(tree: object) -> Iterator[tuple]:
    """Every (container, key) below ``tree``."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _nest(path: Path, draw: random.Random) -> object:
    depth = draw.choice([500, 5_000, 200_000])
    path.write_bytes(draw.choice([b"[", b'{"a":', b'{"stage": [']) * depth)
    return depth


def _latin(path: Path, draw: random.Random) -> object:
    content = path.read_bytes()
    at = draw.randrange(len(content) + 1)
    path.write_bytes(content[:at] + b"\xe9\xff" + content[at:])
    return at


def _remove(path: Path, _: random.Random) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _lock(path: Path, draw: random.Random) -> object:
    mode = draw.choice([0o000, 0o444, 0o555, 0o222]) if path.is_dir() else draw.choice([0o000, 0o222])
    path.chmod(mode)
    return oct(mode)


def _directory(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()
    (path / "a").write_text("a")


def _file(path: Path, _: random.Random) -> None:
    shutil.rmtree(path)
    path.write_text("a file\n")


def _dangle(path: Path, draw: random.Random) -> None:
    _remove(path, draw)
    path.symlink_to("/no/such/place")


def _loop(path: Path, draw: random.Random) -> None:
    _remove(path, draw)
    path.symlink_to(path.name)
