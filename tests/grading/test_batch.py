"""Many pairs: order, duplicates, cache, progress, the same verdicts however they are shared out."""

import json

import pytest

from nemo_cot.errors import UserError
from nemo_cot.grading import GRADER_VERSION, Verdict, batch, grade, grade_many
from nemo_cot.grading.cache import VerdictCache

PAIRS = [
    ("5", "5.0"),
    ("5", "6"),
    (r"\frac12", r"\int_0^1 x dx"),
    ("5", None),
    ("5", "5.0"),
    ("5", ""),
    ("a", "a"),
]
EXPECTED = ["right", "wrong", "right", "wrong", "right", "wrong", "right"]


def outcomes(pairs, **options):
    return [v.outcome for v in grade_many(pairs, **{"workers": 2, "deadline_seconds": 5.0, **options})]


def test_order_is_kept():
    assert outcomes(PAIRS) == EXPECTED
    assert outcomes(PAIRS[::-1]) == EXPECTED[::-1]
    assert grade_many([], workers=2, deadline_seconds=1.0) == []


def test_workers_and_this_process_say_the_same(monkeypatch):
    pairs = [(str(n), str(m)) for n in range(12) for m in range(12)] + PAIRS
    here = grade_many(pairs, workers=2, deadline_seconds=5.0)
    monkeypatch.setattr(batch, "_IN_PROCESS", 0)
    assert grade_many(pairs, workers=2, deadline_seconds=5.0) == here


def test_duplicates_are_graded_once(monkeypatch):
    seen = []
    rules = batch.grade_by_rules
    monkeypatch.setattr(batch, "grade_by_rules", lambda *pair: seen.append(pair) or rules(*pair))
    assert outcomes([("5", "5.0")] * 1000) == ["right"] * 1000
    assert seen == [("5", "5.0")]


def test_progress_reaches_the_number_of_distinct_pairs():
    calls = []
    outcomes(PAIRS, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == [1, 2, 3, 4, 5, 6] and {total for _, total in calls} == {6}


def test_the_cache_answers_the_second_time(tmp_path, monkeypatch):
    assert outcomes(PAIRS, cache=tmp_path) == EXPECTED
    monkeypatch.setattr(
        batch, "grade_by_rules", lambda *pair: (Verdict("wrong", "not from the cache"), False)
    )
    again = grade_many(PAIRS, workers=1, deadline_seconds=5.0, cache=tmp_path)
    assert [v.outcome for v in again] == EXPECTED
    assert all(v.reason != "not from the cache" for p, v in zip(PAIRS, again) if p[1] is not None)


def test_the_cache_is_keyed_by_the_grader_version(tmp_path, monkeypatch):
    outcomes(PAIRS, cache=tmp_path)
    monkeypatch.setattr("nemo_cot.grading.cache.grader_version", lambda: "another")
    assert VerdictCache(tmp_path).get("5", "5.0") is None
    assert GRADER_VERSION.startswith("nemo-cot ")


def test_a_broken_cache_costs_its_lines_only(tmp_path):
    outcomes(PAIRS, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    nested = b'{"gold": "1", "other": ' + b"[" * 200_000  # in a field that nobody reads
    path.write_bytes(nested + b"\n" + path.read_bytes()[:-20] + b"\x00\xff{")
    cache = VerdictCache(tmp_path)
    assert cache.get("5", "6") == Verdict("wrong", "exact")
    cache.add([("1", "1.0", Verdict("right", "exact"))])
    assert VerdictCache(tmp_path).get("1", "1.0") == Verdict("right", "exact")


def test_deadlines_are_not_cached(tmp_path):
    VerdictCache(tmp_path).add(
        [("5", "x", Verdict("undecided", "deadline: 2 s")), ("5", "y", Verdict("wrong", "exact"))]
    )
    lines = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().split("\n") if line]
    assert [line["prediction"] for line in lines] == ["y"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match="cannot use the verdict cache"):
        grade_many(PAIRS, workers=1, deadline_seconds=1.0, cache=file)


def test_a_fault_in_the_rules_is_shown_and_ends_nothing(monkeypatch):
    monkeypatch.setattr("nemo_cot.grading.answers.rules.read", lambda text: 1 / 0)
    assert grade("5", "6") == Verdict("undecided", "internal-error: ZeroDivisionError")
