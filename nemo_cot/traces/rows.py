"""What a row of a trace file means: its problem, and its solutions, by the columns of teacher=file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nemo_cot import ROOT
from nemo_cot.config import FileTeacher
from nemo_cot.config.teacher import ThinkingConfig
from nemo_cot.errors import UserError
from nemo_cot.io.tables import Row, read_table

_ASKS, _ANSWERS = ("user", "human"), ("assistant", "gpt", "model")
"""Who speaks in the messages of chats, by the names that public sets have for them."""


class Solution(NamedTuple):
    """``source``: the kept columns. ``step``: what else the lineage says of it."""

    text: str
    finish_reason: str
    source: dict[str, Any]
    step: dict[str, Any]


class SourceRow(NamedTuple):
    """One row. ``place``: where, for errors. ``problem`` and the rest are None where the file has none."""

    place: str
    step: dict[str, Any]
    keys: Sequence[str]
    problem_id: str | None
    problem: str | None
    expected_answer: str | None
    subset_for_metrics: str | None
    solutions: list[Solution]


def source_rows(path: Path, teacher: FileTeacher, counts: Counter[str]) -> Iterator[SourceRow]:
    """The rows of ``path`` that teacher.where takes, read by teacher.columns. ``counts``: rows, and the
    solutions that were not taken by the column that left them out.

    Raises UserError with file, row, key and fix for what is not understood, and if there are no rows, or
    none is taken.
    """
    columns, taken, seen = teacher.columns.named | set(teacher.where), 0, {}
    for row in read_table(path, format=teacher.format, split=teacher.split, columns=columns):
        counts["rows"] += 1
        if solutions := list(_solutions(row, teacher, counts, seen)):
            taken += 1
            yield _source_row(row, teacher, solutions)
    if not counts["rows"]:
        raise UserError("the file holds no rows", where=str(path), fix="give a table with one trace per row")
    if not taken:
        has = (
            "; ".join(f"{column} is {value!r:.60}" for column, value in seen.items())
            or "no row has a generation"
        )
        fix = f"correct teacher.where.{next(iter(seen))}" if seen else "give a file with traces"
        raise UserError(f"none of its {counts['rows']} rows is taken: {has}", where=str(path), fix=fix)


def as_text(value: Any) -> str | None:
    """Text, or a number as text; None for anything else, and for what is not a number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else str(value)


def folded(text: str) -> str:
    """``text``, whatever blanks and line breaks stand between the words."""
    return " ".join(text.split())


def _source_row(row: Row, teacher: FileTeacher, solutions: list[Solution]) -> SourceRow:
    columns = teacher.columns
    names = (columns.problem_id,) if columns.problem_id else ("problem_id", "id")
    problem_id = next((v for name in names if (v := _scalar(row, name)) is not None), None)
    problem = _scalar(row, columns.problem)
    if problem is None and columns.messages:
        problem = _spoken(row, columns.messages)[0]
    for prefix in teacher.prefixes if problem else ():
        if problem.lstrip().startswith(prefix):
            problem = problem.lstrip().removeprefix(prefix).lstrip()
            break
    if problem_id is None and not (problem or "").strip():
        raise _not_understood(row, columns.problem, "problem", "problem")
    expected, subset = _scalar(row, columns.expected_answer), _scalar(row, columns.subset_for_metrics)
    return SourceRow(row.place, row.step, row.keys, problem_id, problem, expected, subset, solutions)


def _scalar(row: Row, column: str | None) -> str | None:
    """The text in ``column``; None without it, or without a value."""
    value = None if column is None else row.values.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if (text := as_text(value)) is None:
        raise UserError(
            f"is a {type(value).__name__}, not text",
            where=f"{row.place}, field {column}",
            fix=f"give {column} as text",
        )
    return text


def _solutions(
    row: Row, teacher: FileTeacher, counts: Counter[str], seen: dict[str, Any]
) -> Iterator[Solution]:
    """Those of the row that are taken, each with the thinking as teacher.thinking wants it."""
    columns, thinking = teacher.columns, teacher.thinking
    several, field = False, columns.messages or columns.generation
    if field not in row.keys:
        raise _not_understood(row, field, "messages" if columns.messages else "generation", "solution")
    if columns.thought is not None and columns.thought not in row.keys:
        raise _not_understood(row, columns.thought, "thought", "thinking")
    value = row.values[field]
    if columns.messages is None and (several := isinstance(value, list)):
        field += ", number {}"
    texts = value if several else [value]
    for number, text in enumerate(texts):
        if reason := _left_out(row, number, len(texts), teacher.where):
            counts[reason] += 1
            seen.setdefault(reason, row.values[reason])
            continue
        if columns.messages is not None:
            text = _spoken(row, columns.messages)[1]
        text = _checked(row, text, field.format(number + 1))
        thought, finish_reason = (
            None if (v := _per_solution(row, name, number, len(texts))) is None else _checked(row, v, name)
            for name in (columns.thought, columns.finish_reason)
        )
        text, whole = _with_thought(text, thought, thinking)
        kept = {
            name: _kept(row.values[name], number, len(texts)) for name in columns.kept if name in row.values
        }
        step = {"generation": number} if several else {}
        step |= {} if thinking.mode == "keep" else {"thinking": thinking.mode}
        yield Solution(text, (finish_reason or "stop") if whole else "length", kept, step)


def _checked(row: Row, value: Any, field: str | None) -> str:
    if not isinstance(value, str):
        what = "is missing" if value is None else f"is a {type(value).__name__}, not text"
        fix = "give it as text, or leave such rows out with teacher.where"
        raise UserError(what, where=f"{row.place}, field {field}", fix=fix)
    return value


def _per_solution(row: Row, column: str | None, number: int, count: int) -> Any:
    """The value for solution ``number`` of ``count``: out of a list of so many, or the same for all."""
    value = row.values.get(column) if column else None
    if not isinstance(value, list):
        return value
    if len(value) != count:
        raise UserError(
            f"has {len(value)} values for {count} generation{'s' * (count != 1)}",
            where=f"{row.place}, field {column}", fix="give one per generation",
        )  # fmt: skip
    return value[number]


def _kept(value: Any, number: int, count: int) -> Any:
    """Of a list per solution that of this one; scalars as they are, anything else as text."""
    if isinstance(value, list) and len(value) == count:
        value = value[number]
    return value if isinstance(value, (str, bool)) or value is None else as_text(value) or str(value)


def _spoken(row: Row, column: str) -> tuple[str | None, str]:
    """The last answer of a chat, and the last question before it."""
    if column not in row.keys:
        raise _not_understood(row, column, "messages", "chat")
    chat, question = row.values[column], None
    if isinstance(chat, dict) and all(isinstance(v, list) for v in chat.values()):  # a Sequence of datasets
        chat = [dict(zip(chat, values)) for values in zip(*chat.values())]
    if not isinstance(chat, list) or not all(isinstance(said, dict) for said in chat):
        raise _no_chat(row, column, "is not a list of messages")
    said = [(m.get("role", m.get("from")), m.get("content", m.get("value"))) for m in chat]
    last = max((place for place, (who, _) in enumerate(said) if who in _ANSWERS), default=None)
    if last is None:
        raise _no_chat(row, column, f"has no message of {' or '.join(_ANSWERS)}")
    question = next((text for who, text in reversed(said[:last]) if who in _ASKS), None)
    if not isinstance(said[last][1], str) or not isinstance(question, (str, type(None))):
        raise _no_chat(row, column, "has a message that is not text")
    return question, said[last][1]


def _no_chat(row: Row, column: str, what: str) -> UserError:
    fix = "give [{role, content}] or [{from, value}], with the answer last"
    return UserError(what, where=f"{row.place}, field {column}", fix=fix)


def _with_thought(text: str, thought: str | None, config: ThinkingConfig) -> tuple[str, bool]:
    """The text as ``config.mode`` wants it, and whether its thinking came to an end."""
    if thought is not None:
        kept, before, solution, whole = f"{config.open}\n{thought.strip()}\n{config.close}\n\n{text}", "", text, True
    else:
        head, closed, tail = text.partition(config.close)  # the opening marker may be in the prompt
        before, opened, inner = head.partition(config.open)
        kept, whole = text, bool(closed) or not opened
        if opened:
            thought, solution = inner, tail
        else:
            before, thought, solution = ("", head, tail) if closed else ("", "", text)
    if config.mode == "keep":
        return kept, whole
    parts = [before, thought, solution] if config.mode == "join" else [before, solution]
    return "\n\n".join(filter(None, (_without(part, config) for part in parts))), whole


def _without(text: str, config: ThinkingConfig) -> str:
    for marker in (config.open, config.close, *config.others):
        text = text.replace(marker, "")
    return text.strip()


def _left_out(row: Row, number: int, count: int, where: Mapping[str, Any]) -> str | None:
    """The first column by which solution ``number`` of ``count`` is not taken. A list of so many has a
    value for each; of any other list one value is enough.
    """
    for column, wanted in where.items():
        if wanted is None:
            continue
        if column not in row.keys:
            what = f"there is no column {column!r}; it has {_listed(row.keys)}"
            raise UserError(what, where=row.place, fix=f"correct teacher.where.{column}")
        value = row.values.get(column)
        values = value if isinstance(value, list) else [value]
        values = [values[number]] if len(values) == count else values
        if not any(_same(v, w) for v in values for w in (wanted if isinstance(wanted, list) else [wanted])):
            return column
    return None


def _same(value: Any, wanted: Any) -> bool:
    """Whether they are the same number, truth value or text; CSV files have all of them as text."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return str(value).casefold() == str(wanted).casefold()
    return value == wanted or (value is not None and as_text(value) == str(wanted))


def _not_understood(row: Row, column: str | None, key: str, holds: str) -> UserError:
    """The error for a row without a column, naming those that it has and the preset whose columns they are."""
    what = f"{column} is missing" if column not in row.keys else f"{column} is empty"
    fits = [f"teacher={name}" for name in fitting_presets(row.keys)]
    fix = f"set teacher.columns.{key} to the column that holds the {holds}"
    if fits:
        fix = f"{' or '.join(fits)} has these columns; or {fix}"
    return UserError(
        f"{what}; the row has {_listed(row.keys)}", where=f"{row.place}, field {column}", fix=fix
    )


def _listed(keys: Sequence[str]) -> str:
    """The keys of a row, none of them long, and not too many."""
    named = [key[:40] for key in keys[:20]]
    return ", ".join(named + ["and more"] * (len(keys) > 20)) or "no keys"


def fitting_presets(keys: Sequence[str]) -> list[str]:
    """The files of conf/teacher whose columns are all among ``keys``; of those the ones with most columns."""
    fits: dict[str, int] = {}
    for path in sorted((ROOT / "conf/teacher").glob("*.yaml")):
        preset = yaml.safe_load(path.read_text())
        columns = {"problem": "problem", **preset.get("columns", {})}
        own = {name for name in columns.values() if isinstance(name, str)} | set(columns.get("kept", ()))
        if "file" in preset["defaults"] and own <= set(keys):
            fits[path.stem] = len(own)
    return [name for name, count in fits.items() if count == max(fits.values())]
