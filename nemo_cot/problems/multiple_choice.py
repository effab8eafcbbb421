"""problems=multiple_choice: out of tables with a question, its options and the right one of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase

import msgspec
import yaml

from nemo_cot import ROOT
from nemo_cot.config import ChoiceProblems
from nemo_cot.errors import UserError
from nemo_cot.grading.plain_text import plain
from nemo_cot.io.paths import user_path
from nemo_cot.io.tables import Row, read_table
from nemo_cot.problems.file import refuse_code
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.records import Problem, row_id
from nemo_cot.traces.rows import as_text


def make(config: ChoiceProblems) -> ProblemSet:
    """Every row of both files. Left out and counted: those with a wrong option that is the right one too. Raises
    UserError that names file, row and column.
    """
    left_out: Counter[str] = Counter()
    train = _read(config, config.train_path, left_out) if config.train_path else []
    return ProblemSet(train, _read(config, config.heldout_path, left_out), dict(left_out))


def _read(config: ChoiceProblems, path: str, left_out: Counter[str]) -> list[Problem]:
    problems = []
    for number, row in enumerate(read_table(user_path(path), format=config.format), start=1):
        right, options = _options(config, row)
        if any(plain(text) == plain(options[right]) for place, text in enumerate(options) if place != right):
            left_out["with the right option among the others"] += 1
            continue
        problems.append(_problem(config, row, f"{Path(path).stem}-{number}", right, options))
    if not problems:
        raise UserError("holds no problem of use", where=path, fix="give a table with a question per row")
    return problems


def _problem(config: ChoiceProblems, row: Row, name: str, right: int, options: list[str]) -> Problem:
    columns = config.columns
    own = _text(row, columns.problem_id, needed=False) if columns.problem_id else row_id(row.values)
    name = own or name
    order = list(range(len(options)))
    if config.shuffle:
        random.Random(f"{config.seed}:{name}").shuffle(order)
    lettered = {ascii_uppercase[place]: options[which].strip() for place, which in enumerate(order)}
    lines = [_filled(config.option, letter=letter, text=text) for letter, text in lettered.items()]
    question = _text(row, columns.question).strip()
    return Problem(
        problem_id=name,
        problem=_filled(config.template, question=question, options="\n".join(lines)),
        expected_answer=ascii_uppercase[order.index(right)],
        subset_for_metrics=_text(row, columns.subset_for_metrics, needed=False) if columns.subset_for_metrics else None,
        scorer="choice",
        scorer_data={"options": lettered},
    )


def _filled(template: str, **values: str) -> str:
    """In one pass: a question that holds {options} keeps it."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def _options(config: ChoiceProblems, row: Row) -> tuple[int, list[str]]:
    """The place of the right option, and the texts of all."""
    columns, named = config.columns, config.columns.option_columns
    if missing := [name for name in (columns.question, *named, columns.answer) if name and name not in row.keys]:
        refuse_code(row.keys, row.place)
        raise _missing(row, missing[0])
    if columns.correct is not None:
        found = {name: _text(row, name, needed=False) for name in named}
        options = {name: text for name, text in found.items() if text and text.strip()}  # some have fewer wrong ones
        right = 0 if columns.correct in options else None
    else:
        options = _choices(row, named[0]) if len(named) == 1 else {name: _text(row, name) for name in named}
        right = _place(row, columns.answer or "", options)
    if right is None or not 2 <= len(options) <= len(ascii_uppercase):
        what = f"{len(options)} options" if right is not None else f"{columns.correct} is empty"
        raise UserError(what, where=row.place, fix="give 2 to 26 options and the right one, or leave the row out")
    return right, list(options.values())


def _choices(row: Row, column: str) -> dict[str, str]:
    """The options in one column: a list, a dict by letter, {text: [...], label: [...]}, or one of these as JSON."""
    value = row.values[column]
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, ValueError, RecursionError):
            value = None
    if isinstance(value, Mapping) and {*value} == {"text", "label"} and isinstance(value["text"], list):
        value = dict(zip(map(str, value["label"]), value["text"], strict=False))
    if isinstance(value, list):
        value = dict(zip(ascii_uppercase, value, strict=False))
    texts = {str(name): as_text(text) for name, text in value.items()} if isinstance(value, Mapping) else {}
    if not texts or None in texts.values():
        fix = "give a list of texts, or a dict of them by letter"
        raise UserError("is neither a list nor a dict of options", where=f"{row.place}, field {column}", fix=fix)
    return {name: text for name, text in texts.items() if text is not None}


def _place(row: Row, column: str, options: Mapping[str, str]) -> int:
    """Which option ``column`` names: by letter or name, by number from 0, or by its text."""
    names, texts, value = list(options), list(options.values()), row.values.get(column)
    found: set[int] = set()
    if isinstance(value, int) and not isinstance(value, bool):
        found = {value} if 0 <= value < len(names) else set()
    elif isinstance(value, str):
        value = value.strip()
        letters = [*ascii_uppercase[: len(names)]]
        found = {place for among in (names, letters, texts) for place, text in enumerate(among) if text.strip() == value}
        if not found and value.isdecimal() and int(value) < len(names):
            found = {int(value)}
    if len(found) != 1:
        what = f"{value!r:.60} names {'more than one' if found else 'none'} of the {len(names)} options"
        fix = "give the letter, the number from 0, or the text of one"
        raise UserError(what, where=f"{row.place}, field {column}", fix=fix)
    return found.pop()


def _text(row: Row, column: str, *, needed: bool = True) -> str | None:
    text = as_text(row.values.get(column))
    if needed and (text is None or not text.strip()):
        raise UserError("is empty or not text", where=f"{row.place}, field {column}", fix=f"give {column} as text")
    return text


def _missing(row: Row, column: str) -> UserError:
    """For a table with other columns, naming the file of conf/problems whose columns they are."""
    keys, fits = set(row.keys), []
    for path in sorted((ROOT / "conf/problems").glob("*.yaml")):
        own = yaml.safe_load(path.read_text()).get("columns") or {}
        needed = [own.get("question"), own.get("correct"), own.get("answer")]
        if own and {name for name in needed if name} <= keys:
            fits.append(f"problems={path.stem}")
    fix = "set problems.columns to those of your table"
    return UserError(
        f"{column} is missing; the row has {', '.join(key[:40] for key in row.keys[:20])}", where=row.place,
        fix=f"{' or '.join(fits)} has these columns; or {fix}" if fits else fix,
    )  # fmt: skip
