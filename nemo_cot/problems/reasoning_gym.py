"""problems=reasoning_gym: problems of its tasks, each with an answer that its verifier takes for right."""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from nemo_cot.config import GymProblems
from nemo_cot.errors import UserError
from nemo_cot.grading.scorers.reasoning_gym import Scorer, imported
from nemo_cot.grading.verdict import RIGHT
from nemo_cot.grading.verifiers import HASHED, OWN_ANSWERS, REFUSED
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.records import Problem

_ENTRIES = 20
"""Entries that are drawn at most for each problem that is wanted: some come twice, or have no answer of use."""
_OURS = ("seed", "size")
_NOT_NEEDED = ("source_dataset", "source_index", "difficulty")


def make(config: GymProblems) -> ProblemSet:
    """Of each task its share, the training problems first. Raises UserError for a task or option that is not there or
    is refused, and for a task with too few different problems.
    """
    train: list[Problem] = []
    heldout: list[Problem] = []
    shares = {name: share for name, (share, _) in config.shares.items()}
    num_train, num_heldout = shared(config.num_train, shares), shared(config.num_heldout, shares)
    for name, (_, options) in config.shares.items():
        wanted = num_train[name] + num_heldout[name]
        found = [
            Problem(
                problem_id=f"{name}-{number}", problem=entry["question"], expected_answer=entry["answer"],
                subset_for_metrics=name, scorer="reasoning_gym",
                scorer_data={"task": name, "config": options, "metadata": entry["metadata"]},
            )
            for number, entry in enumerate(drawn(name, options, config.seed, wanted, where=_place(config, name)))
        ]  # fmt: skip
        if len(found) < wanted:
            raise UserError(
                f"only {len(found)} different problems of {wanted} with an answer of their own",
                where=_place(config, name), fix="ask for fewer, or for harder ones by its options",
            )  # fmt: skip
        train += found[: num_train[name]]
        heldout += found[num_train[name] :]
    return ProblemSet(train, heldout)


def check(config: GymProblems) -> None:
    """Raise UserError as :func:`make` does, after one problem of each task."""
    for name, (_, options) in config.shares.items():
        next(drawn(name, options, config.seed, 1, where=_place(config, name)), None)


def shared(number: int, shares: Mapping[str, float]) -> dict[str, int]:
    """``number`` of problems by share: the largest remainders get what is left over."""
    total = sum(shares.values())
    exact = {name: number * share / total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: number - sum(counts.values())]:
        counts[name] += 1
    return counts


def drawn(task: str, options: Mapping[str, Any], seed: int, wanted: int, *, where: str) -> Iterator[dict[str, Any]]:
    """Up to ``wanted`` entries of the task with different questions, and with an answer that is scored right."""
    seen: set[str] = set()
    for entry in entries(task, options, seed, _ENTRIES * wanted, where=where) if wanted else ():
        own = OWN_ANSWERS.get(task, lambda _, entry=entry: entry["answer"])(entry["metadata"])
        if entry["question"] in seen or not isinstance(own, str) or not own.strip():
            continue
        metadata = {key: value for key, value in entry["metadata"].items() if key not in _NOT_NEEDED}
        metadata = json.loads(json.dumps(metadata))  # as the verifier gets it
        if Scorer(task, dict(options), metadata).verdict(own, own).outcome != RIGHT:
            continue
        seen.add(entry["question"])
        yield {"question": entry["question"], "answer": own, "metadata": metadata}
        if len(seen) == wanted:
            return


def entries(task: str, options: Mapping[str, Any], seed: int, size: int, *, where: str) -> Iterator[dict[str, Any]]:
    """The task's own entries, one by one. Raises UserError for a task or an option that is not there, or refused."""
    try:
        package = imported()
    except ImportError:
        raise UserError(
            "the package reasoning-gym is not installed",
            where=where,
            fix="pip install -e '.[local]' in the clone, or problems=file",
        ) from None
    known = package.factory.DATASETS
    if task not in known or task in REFUSED:
        near = difflib.get_close_matches(task, known.keys() - REFUSED.keys(), n=3)
        raise UserError(
            f"the task {task} is not offered: {REFUSED[task]}" if task in known else f"there is no task {task!r}",
            where=where, fix=f"did you mean {' or '.join(near)}?" if near else "choose one of reasoning_gym's gallery",
        )  # fmt: skip
    if task in HASHED and sys.flags.hash_randomization:
        raise UserError(
            f"the problems of {task} hang on the order of Python's sets, another one in every process",
            where=where, fix="put PYTHONHASHSEED=0 before the command",
        )  # fmt: skip
    names = [field.name for field in fields(known[task][1]) if field.name not in _OURS]
    for name in sorted(options.keys() - {*names}):
        near = difflib.get_close_matches(name, names, n=3)
        fix = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(names)}"
        fix = "set problems.seed and the numbers of problems" if name in _OURS else fix
        raise UserError(f"the task {task} has no option {name}", where=where, fix=fix)
    try:
        dataset = package.create_dataset(task, **options, seed=seed, size=size)
        for index in range(size):
            with contextlib.redirect_stdout(io.StringIO()):  # some print dots
                entry = dataset[index]
            yield entry
    except (ValueError, TypeError, AssertionError, IndexError, KeyError, AttributeError) as error:
        raise UserError(f"{task}: {type(error).__name__}: {error}", where=where, fix="correct its options") from None


def _place(config: GymProblems, name: str) -> str:
    return "problems.task" if config.task else f"problems.tasks.{name}"
