"""The shared benchmark files: read where they are, skip with the reason where they are not."""

import json
import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("NEMO_COT_DATA", _ROOT.parent / "shared" / "data"))


def rows(name: str) -> list[dict]:
    """The rows of one file, or a visible skip."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not in ../shared/data (set NEMO_COT_DATA to its folder)")
    with path.open() as handle:
        return [json.loads(line) for line in handle]


def golds(name: str, field: str) -> list[str]:
    """The gold answers of one file, or a visible skip."""
    return [str(row[field]) for row in rows(name)]


def comp_math() -> list[dict]:
    """Comp-Math-24-25: 256 problems, as NeMo-Skills has them."""
    return rows("comp-math-24-25.jsonl")


def competition_golds() -> list[str]:
    """Comp-Math-24-25: 256 answers."""
    return golds("comp-math-24-25.jsonl", "expected_answer")


def math500_golds() -> list[str]:
    """MATH-500: 500 answers."""
    return golds("math500.jsonl", "answer")
