"""How many traces a problem, a verdict or a source may give, and must give."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from nemo_cot.config import CurateConfig
from nemo_cot.errors import UserError
from nemo_cot.traces.candidates import Candidate

Cell = tuple[Any, ...]
"""What a candidate counts towards: its verdict, if verdicts are mixed by a ratio, and its value of the
balance key.
"""


class Quotas:
    """What of ``candidates``, which passed every filter, has been ``taken``, and what may still be.

    With curate.num_problems, each of so many problems gives the same number of traces; else each gives at
    most curate.per_problem. Each cell gives its share of curate.num_traces exactly.
    """

    def __init__(self, candidates: Sequence[Candidate], config: CurateConfig) -> None:
        self.config, self.candidates = config, candidates
        self.taken: list[Candidate] = []
        self.each = config.num_traces // config.num_problems if config.num_problems else config.per_problem
        self.cells = self._cells()
        self._of_problem: Counter[str] = Counter()
        self._of_cell: Counter[Cell] = Counter()
        self._texts: set[tuple[str, bytes]] = set()
        texts: dict[str, set[bytes]] = defaultdict(set)
        for c in candidates:
            texts[c.problem_id].add(c.text)
        self.different = {problem: len(found) for problem, found in texts.items()}

    def refuses(self, c: Candidate) -> str | None:
        """Why ``c`` cannot be taken now; None if it can."""
        if (c.problem_id, c.text) in self._texts:
            return "duplicate"
        if self._of_problem[c.problem_id] >= self.each:
            return "enough_of_problem"
        if self.config.num_problems and c.problem_id not in self._of_problem:
            if self.different[c.problem_id] < self.each:
                return "too_few_of_problem"
            if len(self._of_problem) >= self.config.num_problems:
                return "beyond_num_problems"
        if len(self.taken) >= self.config.num_traces:
            return "beyond_num_traces"
        if self.cells and self._of_cell[self._cell(c)] >= self.cells.get(self._cell(c), 0):
            return "enough_of_kind"
        return None

    def take(self, c: Candidate) -> bool:
        """Take ``c`` if nothing stands against it; whether it was taken."""
        if self.refuses(c) is not None:
            return False
        self.taken.append(c)
        self._count(c, 1)
        return True

    def complete(self, walked: Sequence[Candidate]) -> None:
        """Take as many as can be, by exchanging taken ones where that makes room: the last resort after a
        walk in order over all candidates, ``walked``, which may have used up a problem that another cell
        needs.

        An augmenting path through the cells (breadth first, so none is longer than the number of cells): one
        enters a full problem for another that leaves it, whose cell then needs a place elsewhere.
        """
        short = deque(cell for cell, quota in self.cells.items() for _ in range(quota - self._of_cell[cell]))
        while short:
            for enters, leaves in self._path(short.popleft(), walked):
                if leaves is not None:
                    self.taken.remove(leaves)
                    self._count(leaves, -1)
                self.taken.append(enters)
                self._count(enters, 1)
        if self.cells:
            place = {c.row: number for number, c in enumerate(walked)}
            self.taken.sort(key=lambda c: place[c.row])

    def _path(self, start: Cell, walked: Sequence[Candidate]) -> list[tuple[Candidate, Candidate | None]]:
        """(who enters, who leaves for it), from ``start`` to a problem with room; empty without a path."""
        free: dict[Cell, dict[str, Candidate]] = defaultdict(dict)
        for c in walked:
            if (c.problem_id, c.text) not in self._texts and self._may_open(c.problem_id):
                free[self._cell(c)].setdefault(c.problem_id, c)
        held: dict[str, dict[Cell, Candidate]] = defaultdict(dict)
        for c in self.taken:
            held[c.problem_id][self._cell(c)] = c  # the last one taken of its cell leaves first
        came: dict[Cell, tuple[Cell, Candidate, Candidate] | None] = {start: None}
        waiting = deque([start])
        while waiting:
            cell = waiting.popleft()
            for problem, enters in free[cell].items():
                if self._of_problem[problem] < self.each:
                    return self._back(came, cell, enters)
                for other, leaves in held[problem].items():
                    if other not in came:
                        came[other] = cell, enters, leaves
                        waiting.append(other)
        return []

    @staticmethod
    def _back(
        came: Mapping[Cell, tuple[Cell, Candidate, Candidate] | None], cell: Cell, last: Candidate
    ) -> list[tuple[Candidate, Candidate | None]]:
        steps: list[tuple[Candidate, Candidate | None]] = [(last, None)]
        while (step := came[cell]) is not None:
            cell, enters, leaves = step
            steps.append((enters, leaves))
        return steps[::-1]

    def _may_open(self, problem: str) -> bool:
        limit = self.config.num_problems
        if not limit or problem in self._of_problem:
            return True
        return len(self._of_problem) < limit and self.different[problem] >= self.each

    def _count(self, c: Candidate, change: int) -> None:
        self._of_problem[c.problem_id] += change
        self._of_cell[self._cell(c)] += change
        (self._texts.add if change > 0 else self._texts.discard)((c.problem_id, c.text))

    def _cell(self, c: Candidate) -> Cell:
        mixed = (c.verdict,) if self.config.verdict_mix else ()
        return (*mixed, c.keys[self.config.balance]) if self.config.balance else mixed

    def _cells(self) -> dict[Cell, int]:
        """How many each cell gives; empty without a mix and a balance."""
        mix, key = self.config.verdict_mix, self.config.balance
        if not mix and not key:
            return {}
        weights: dict[Cell, float] = {(verdict,): float(ratio) for verdict, ratio in mix.items()} or {(): 1.0}
        if key:
            values = sorted({c.keys[key] for c in self.candidates if c.keys[key] is not None})
            if self.candidates and not values:
                raise UserError(
                    "no trace of the pool has this key", where=f"curate.balance={key}",
                    fix="name subset_for_metrics, or a key of the traces' lineage, such as annotator or teacher",
                )  # fmt: skip
            weights = {(*cell, value): weight for cell, weight in weights.items() for value in values}
        return shares(weights, self.config.num_traces)

    def keys(self) -> str:
        """The config keys that :meth:`arithmetic` is about."""
        keys = ("num_problems", "verdict_mix", "balance")
        return (
            " and ".join(f"curate.{key}" for key in keys if getattr(self.config, key)) or "curate.per_problem"
        )

    def arithmetic(self) -> str:
        """What the quotas come to, where they are what falls short; else empty."""
        config, wanted = self.config, self.config.num_traces
        if config.num_problems:
            able = sum(count >= self.each for count in self.different.values())
            if able < config.num_problems:
                return (
                    f"num_problems={config.num_problems} x {self.each} traces each = {wanted}, and {able} of "
                    f"{len(self.different)} problems have {self.each} different ones"
                )
        elif (most := sum(min(self.each, count) for count in self.different.values())) < wanted:
            problems = len(self.different)
            if most == self.each * problems:
                return (
                    f"per_problem={self.each} x {problems} problems = {most} < {wanted}" if problems else ""
                )
            return f"at most per_problem={self.each} of each of {problems} problems = {most} < {wanted}"
        if not self.cells:
            return ""
        there = Counter(self._cell(c) for c in {(c.problem_id, c.text): c for c in self.candidates}.values())
        lacking = [
            f"{_named(cell)} {quota}, of which there are {self._of_cell[cell]} within the quotas (in all {there[cell]})"
            for cell, quota in self.cells.items()
            if self._of_cell[cell] < quota
        ]
        return f"num_traces={wanted} divided is {', '.join(lacking)}" if lacking else ""


def shares(weights: Mapping[Cell, float], total: int) -> dict[Cell, int]:
    """``total`` divided in the ratio of ``weights`` by largest remainders, earlier cells first among equal
    ones.
    """
    whole = sum(weights.values())
    exact = {cell: total * weight / whole for cell, weight in weights.items()}
    found = {cell: int(share + 1e-9) for cell, share in exact.items()}
    order = sorted(exact, key=lambda cell: found[cell] - exact[cell])
    for cell in order[: total - sum(found.values())]:
        found[cell] += 1
    return found


def _named(cell: Cell) -> str:
    return " of ".join("none" if part is None else str(part) for part in cell)
