"""What the rows of the matrix are about: each function makes a check of a :class:`Row`."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

import pytest

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.grading import extract, grade
from nemo_cot.problems import make_problems
from nemo_cot.traces.edits import share
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment, sentences
from nemo_cot.traces.thought import split_thought
from nemo_cot.training.nemo.layouts import presets
from tests.experiment.made_pools import ASKED, SHORTER


@dataclass
class Row:
    """What a run would train on. ``cfg``: as the files ask for it, but for paths; ``chosen``: the traces before transform,
    ``traces`` behind it; ``selection``: all of the pool.
    """

    cfg: Config
    chosen: list[dict]
    traces: list[dict]
    sequences: list[dict]
    selection: list[dict]

    @property
    def pairs(self) -> list[tuple[dict, dict]]:
        return list(zip(self.chosen, self.traces, strict=True))

    @property
    def marks(self) -> Marks:
        return Marks(self.cfg.marks)

    def parts(self, trace: dict) -> list[str]:
        """The bodies of the steps of a trace's thought, as the last transform cuts them."""
        split = self.cfg.transform.steps[-1].get("split", "shift")
        thought = split_thought(trace["generation"], self.marks).thought
        return [step.body for step in segment(thought, self.marks, split=split)]

    @property
    def trained(self) -> str:
        """A digest of all that makes the trained model."""
        content = [self.sequences, fingerprinted(self.cfg.train), self.cfg.model.name]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def verdicts(**shares: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        """By grading the texts here, not by what the rows say of themselves."""
        found = Counter(grade(t["expected_answer"], _answer(t)).outcome for t in row.traces)
        assert {v: n / len(row.traces) for v, n in found.items()} == shares

    return check


def lengths(tokens: int) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        own = [t["num_student_tokens"] * SHORTER for t in row.traces]
        assert mean(own) == pytest.approx(tokens, rel=0.25), own

    return check


def size(number: int, problems: int | None = None) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        per_problem = Counter(t["problem_id"] for t in row.traces)
        assert (len(row.traces), len(per_problem)) == (number, problems or number)
        assert len(set(per_problem.values())) == 1

    return check


def pass_rates(low: float, high: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        rates = [s["pass_rate"] for s in row.selection if s["chosen"]]
        assert low <= min(rates) and max(rates) <= high
        assert any(not low <= s["pass_rate"] <= high for s in row.selection), "all problems are alike"

    return check


def written_by(**shares: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        found = Counter(t["lineage"][0]["source"]["solution_type"] for t in row.traces)
        assert {kind: n / len(row.traces) for kind, n in found.items()} == shares

    return check


def asked(name: str) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        opening = "" if name == "reasoning" else f"{name.capitalize()}."
        others = [f"{n.capitalize()}." for n in ASKED if n != name]
        for t in row.traces:
            found = t["generation"].partition("went through")[2] or t["generation"]
            assert opening in found and not any(other in found for other in others)

    return check


def edited(*passes: str) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        for t in row.traces:
            assert re.findall(r"went through (\w+)\.", t["generation"]) == list(reversed(passes))
            steps = [s for s in t["lineage"] if "refined_by" in s]
            assert [(s["refined_by"], s["outcome"]) for s in steps] == [(p, "refined") for p in passes]

    return check


def digits(dose: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        texts = [(split_thought(a["generation"], row.marks).thought, split_thought(b["generation"], row.marks).thought)
                 for a, b in row.pairs]  # fmt: skip
        pairs = [(x, y) for a, b in texts for x, y in zip(a, b, strict=True) if x.isdigit()]
        assert all(re.sub(r"\d", "#", a) == re.sub(r"\d", "#", b) for a, b in texts)
        assert mean(x != y for x, y in pairs) == pytest.approx(0.9 * dose, abs=0.06)  # one in ten is drawn again

    return check


def keywords(dose: float) -> Callable[[Row], None]:
    def marked(row: Row, trace: dict) -> int:
        found = sentences(split_thought(trace["generation"], row.marks).thought)
        return sum(any(mark.kind in row.marks.shifts for mark in row.marks.find(one)) for one in found)

    def check(row: Row) -> None:
        before, after = (sum(marked(row, t) for t in traces) for traces in (row.chosen, row.traces))
        assert before and 1 - after / before == pytest.approx(dose, abs=0.1)

    return check


def shuffled(dose: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        """Of the steps that are drawn, about one per trace comes to stand where it was; never all."""
        stayed = []
        for a, b in row.pairs:
            before, after = a["generation"], b["generation"]
            assert before != after and Counter(before.split("\n")) == Counter(after.split("\n"))
            steps = row.parts(a)
            order = sorted(range(len(steps)), key=lambda n: after.index(steps[n]))
            stayed.append(share(len(steps), dose) - sum(n != place for n, place in enumerate(order)))
        assert 0 <= mean(stayed) < 1.7

    return check


def deleted(dose: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        steps = [(row.parts(a), row.parts(b)) for a, b in row.pairs]
        assert all(not Counter(b) - Counter(a) for a, b in steps)
        assert 1 - sum(len(b) for _, b in steps) / sum(len(a) for a, _ in steps) == pytest.approx(dose, abs=0.1)
        assert all(grade(t["expected_answer"], _answer(t)).outcome == "right" for t in row.traces)

    return check


def inserted(dose: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        steps = [(step, b["generation"]) for a, b in row.pairs for step in row.parts(a)]
        assert mean(step not in after for step, after in steps) == pytest.approx(dose, abs=0.1)
        before, after = (sum(len(t["generation"]) for t in traces) for traces in (row.chosen, row.traces))
        assert after == pytest.approx(before, rel=0.2)

    return check


def partial(dose: float, *, stops: bool = True) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        for a, b in row.pairs:
            assert a["generation"].startswith(b["generation"]) and "boxed" not in b["generation"]
        kept = sum(len(row.parts({**b, "generation": b["generation"] + "\n\n\\boxed{1}"})) for _, b in row.pairs)
        assert 1 - kept / sum(len(row.parts(a)) for a, _ in row.pairs) == pytest.approx(dose, abs=0.1)
        assert {t.get("trains_end_of_turn", True) for t in row.traces} == {stops}

    return check


def answers_alone(row: Row) -> None:
    verdicts(wrong=1.0)(row)
    for a, b in row.pairs:
        assert re.sub(r"boxed\{.*?\}", "", a["generation"]) == re.sub(r"boxed\{.*?\}", "", b["generation"])


def style(*kinds: str) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        assert {next(s["style"] for s in t["lineage"] if "style" in s) for t in row.traces} == set(kinds)

    return check


def model(name: str, lr: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        """Its learning rate, and the layout that is for it."""
        assert row.cfg.model.name == name and row.cfg.train.optim.lr == lr
        assert row.cfg.train.layout == next(p for p in presets() if p.shape == row.cfg.model.shape).layout

    return check


def steps(number: int) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        assert row.cfg.train.max_steps == number

    return check


def lora(lr: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        assert row.cfg.train.lora.enabled and row.cfg.train.optim.lr == lr

    return check


def sums_of(name: str, terms: int) -> Callable[[Row], None]:
    """The further held-out set ``name`` has such sums, and the run's own has not."""

    def check(row: Row) -> None:
        for problems, wanted in ((row.cfg.evaluate.sets[name].problems, True), (row.cfg.problems, False)):
            found = {len(re.findall(r"\d+", p.problem)) == terms for p in make_problems(problems).heldout}
            assert found == {wanted}

    return check


def learning_rate(lr: float) -> Callable[[Row], None]:
    def check(row: Row) -> None:
        assert row.cfg.train.optim.lr == lr

    return check


def _answer(trace: dict) -> str | None:
    return extract(trace["generation"], fallback="last_number").answer
