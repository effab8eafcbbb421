"""The texts of the trace viewer: an index of every sample, and compressed chunks of texts, decoded when they
are read.

The index has verdict, length, finish reason, answer and turns of every sample. Texts are kept within a
budget: of every problem and set the first k samples, k as large as fits, and before them one right and one
not right sample of each problem of each evaluated set, so that every gain and loss can be read. The page says
what was left out.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.config import VERDICTS as GRADED
from nemo_cot.config.marks import MarksConfig
from nemo_cot.evaluation.graded_runs import tokens_of
from nemo_cot.io.jsonl import iter_jsonl
from nemo_cot.progress import track
from nemo_cot.records import Trace
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment
from nemo_cot.traces.thought import marked_thought

CHUNK = 192 * 1024
"""Characters of a chunk before compression: decoded in some milliseconds, and well compressed."""
VERDICTS = (*GRADED, "ungraded")
_LEVEL = 6
_ENCODED = 4 / 3
"""Base64."""
_PROBED = 64
"""One sample in so many is compressed beforehand, to know how many fit."""
_LONGEST = 200_000
"""Characters of a problem's text or an answer in the index; longer ones are cut there, not where they are
read.
"""


def text_name(subject: str, name: str) -> str:
    """The name of the samples of ``subject`` (or of a run) on the held-out set ``name``; empty: the run's own."""
    return f"{name}/{subject}" if name else subject


@dataclass(frozen=True)
class TextSet:
    """Samples under one ``name`` (a subject, chosen, pool), ``label`` for readers. ``read`` may be called
    twice.
    """

    name: str
    label: str
    read: Callable[[], Iterable[Trace]]

    @staticmethod
    def of_file(name: str, label: str, path: Path) -> TextSet:
        """The rows of ``path``, read one by one."""
        return TextSet(name, label, lambda: iter_jsonl(path, Trace))


class IndexedSet(msgspec.Struct):
    """Columns, one value per sample: ``problem`` and ``answer`` index the lists of :class:`Index`,
    ``verdict`` :data:`VERDICTS`, ``finish`` ``reasons``; ``turns``: marks of a change of direction. ``chunk``
    -1: the text was left out.
    """

    name: str
    label: str
    reasons: list[str] = []
    problem: list[int] = []
    sample: list[int] = []
    verdict: list[int] = []
    tokens: list[int] = []
    finish: list[int] = []
    answer: list[int] = []
    turns: list[int] = []
    chunk: list[int] = []
    place: list[int] = []


class Index(msgspec.Struct):
    """What the viewer decodes at once. ``problems``: id, text, expected answer, subset. ``kinds`` of steps.
    ``rule``: what was left out.
    """

    problems: list[tuple[str, str, str, str]]
    answers: list[str]
    sets: list[IndexedSet]
    verdicts: Sequence[str]
    words: dict[str, list[str]]
    kinds: list[str]
    shifts: list[str]
    rule: str


@dataclass
class Texts:
    """``index`` and ``chunks``: zlib, then base64."""

    index: str
    chunks: list[str]
    rule: str
    samples: int


@dataclass
class _Sizes:
    """Of one set: by sample, the rank within its problem (0 for what is kept first) and its characters."""

    ranks: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


def encoded(data: bytes) -> str:
    """As the page holds it."""
    return base64.b64encode(zlib.compress(data, _LEVEL)).decode()


def build_texts(sets: Sequence[TextSet], marks: MarksConfig | None, max_bytes: int) -> Texts:
    """The index and the chunks of ``sets``, at most about ``max_bytes`` of text in the page.

    Reads each set twice, row by row: what is held is the index and what is kept, compressed.
    """
    builder = _Builder(marks)
    found, chunks = [], []
    with ThreadPoolExecutor(2) as pool, track("texts", 2 * len(sets), unit="passes") as tracker:
        for number, one in enumerate(sets, start=1):
            found.append(builder.index(one))
            tracker.update(number, indexed=one.name)
        kept, rule = _kept([sizes for _, sizes in found], builder.ratio, max_bytes)
        for number, (one, (indexed, sizes)) in enumerate(zip(sets, found), start=len(sets) + 1):
            waiting = _chunks(one, indexed, sizes, kept, len(chunks), builder.marks)
            chunks += pool.map(encoded, waiting)  # zlib releases the interpreter's lock
            tracker.update(number, packed=one.name)
    index = builder.finished([indexed for indexed, _ in found], rule)
    return Texts(encoded(msgspec.json.encode(index)), chunks, rule, sum(len(s.sizes) for _, s in found))


class _Builder:
    """Collects problems and answers over all sets, and how well the texts compress."""

    def __init__(self, marks: MarksConfig | None) -> None:
        self.config = marks or MarksConfig({}, [], [])
        self.marks = Marks(self.config)
        self.problems: dict[tuple[str, str, str], int] = {}
        self.subsets: list[str] = []
        self.answers: dict[str, int] = {"": 0}
        self._raw = self._packed = 0

    @property
    def ratio(self) -> float:
        """Characters in the page per character of text, from a sample of the texts."""
        return _ENCODED * self._packed / self._raw if self._raw else 1.0

    def index(self, one: TextSet) -> tuple[IndexedSet, _Sizes]:
        indexed, sizes = IndexedSet(one.name, one.label), _Sizes()
        reasons: dict[str, int] = {}
        seen: Counter[int] = Counter()
        firsts: set[tuple[int, bool]] = set()
        for row in one.read():
            problem, right = self._problem(row), row.verdict == "right"
            indexed.problem.append(problem)
            indexed.sample.append(row.sample)
            indexed.verdict.append(VERDICTS.index(row.verdict) if row.verdict in VERDICTS else 3)
            indexed.tokens.append(tokens_of(row))
            indexed.finish.append(reasons.setdefault(row.finish_reason or "unknown", len(reasons)))
            answer = (row.predicted_answer or "")[:_LONGEST]
            indexed.answer.append(self.answers.setdefault(answer, len(self.answers)))
            marks = self.marks.find(row.generation)
            indexed.turns.append(sum(mark.kind in self.marks.shifts for mark in marks))
            sizes.ranks.append(0 if (problem, right) not in firsts else 1 + seen[problem])
            firsts.add((problem, right))
            seen[problem] += 1
            sizes.sizes.append(len(row.generation))
            if len(sizes.sizes) % _PROBED == 1:
                self._raw += len(row.generation)
                self._packed += len(zlib.compress(row.generation.encode(), _LEVEL))
        indexed.reasons = list(reasons)
        return indexed, sizes

    def _problem(self, row: Trace) -> int:
        key = (row.problem_id, row.problem[:_LONGEST], row.expected_answer[:_LONGEST])
        if key not in self.problems:
            self.problems[key] = len(self.problems)
            self.subsets.append(row.subset_for_metrics or "")
        return self.problems[key]

    def finished(self, sets: list[IndexedSet], rule: str) -> Index:
        kinds: dict[str, list[str]] = defaultdict(list)
        for words in self.config.words.values():
            for kind, phrases in words.items():
                kinds[kind] += phrases
        return Index(
            problems=[(*key, subset) for key, subset in zip(self.problems, self.subsets)],
            answers=list(self.answers),
            sets=sets,
            verdicts=VERDICTS,
            words=kinds,
            kinds=self.marks.step_kinds,
            shifts=self.config.shifts,
            rule=rule,
        )


def _kept(found: Sequence[_Sizes], ratio: float, max_bytes: int) -> tuple[int, str]:
    """The largest rank within the budget, and the rule in words ("" if nothing is left out)."""
    by_rank: Counter[int] = Counter()
    for one in found:
        for rank, size in zip(one.ranks, one.sizes):
            by_rank[rank] += size
    room, most = max_bytes / max(ratio, 1e-9), max(by_rank, default=0)
    kept = -1
    for rank in range(most + 1):
        room -= by_rank[rank]
        if room < 0:
            break
        kept = rank
    if kept == most:
        return kept, ""
    total = sum(len(one.ranks) for one in found)
    texts = sum(rank <= kept for one in found for rank in one.ranks)
    first = f"the first {kept} samples of each problem and set, and " if kept > 0 else ""
    what = (
        f"{first}of each problem and set the first right and the first other sample" if kept >= 0 else "none"
    )
    return kept, (
        f"This file holds the texts of {texts:,} of {total:,} samples ({what}), to stay below "
        f"report.max_megabytes={max_bytes / 1e6:g}. Verdicts, lengths and answers of all are here."
    )


def _chunks(
    one: TextSet, indexed: IndexedSet, sizes: _Sizes, kept: int, first: int, marks: Marks
) -> Iterator[bytes]:
    """JSON lists of [text, details, steps] of at most about :data:`CHUNK` characters; fills in chunk and place
    of the index.
    """
    encoder = msgspec.json.Encoder()
    rows: list[Any] = []
    number, held = first, 0
    for place, row in enumerate(one.read()):
        if sizes.ranks[place] > kept:
            indexed.chunk.append(-1)
            indexed.place.append(-1)
            continue
        if rows and held + sizes.sizes[place] > CHUNK:
            yield encoder.encode(rows)
            rows, held, number = [], 0, number + 1
        indexed.chunk.append(number)
        indexed.place.append(len(rows))
        rows.append([row.generation, _details(row), steps_of(row.generation, marks)])
        held += sizes.sizes[place]
    if rows:
        yield encoder.encode(rows)


def steps_of(text: str, marks: Marks) -> list[list[int]]:
    """The steps before, within and behind the thought between markers (without any, all are behind it): in each
    part kind and length of a step in turn. The length counts as JavaScript does, in UTF-16.
    """
    place = {kind: number for number, kind in enumerate(marks.step_kinds)}
    begin, end = marked_thought(text, marks) or (0, 0)
    parts = (segment(part, marks) for part in (text[:begin], text[begin:end], text[end:]))
    return [[n for step in steps for n in (place[step.kind], _utf16(step.text))] for steps in parts]


def _utf16(text: str) -> int:
    return len(text) if text.isascii() else len(text) + sum(letter > "\uffff" for letter in text)


def _details(row: Trace) -> dict[str, Any]:
    """What is shown below a text; what it lacks is left out."""
    found = {
        "verdict reason": row.verdict_reason,
        "answer found": row.answer_source,
        "NeMo-Skills' verdict": None
        if row.symbolic_correct is None
        else "right"
        if row.symbolic_correct
        else "wrong",
        "NeMo-Skills' answer": row.nemo_skills_answer,
    }
    details: dict[str, Any] = {key: value for key, value in found.items() if value}
    return {**details, "lineage": row.lineage} if row.lineage else details
