"""results.json: every figure of a report, typed. The page and report.md show these figures and compute none."""

from __future__ import annotations

from typing import Any

import msgspec

from nemo_cot.evaluation.comparison import Comparison
from nemo_cot.evaluation.scores import Point, Scores
from nemo_cot.records import PackingFigures, StepMetrics
from nemo_cot.stages.manifest import Manifest
from nemo_cot.traces.candidates import SelectionRow
from nemo_cot.traces.structure.profile import Figure as MeasureFigure


class Paper(msgspec.Struct):
    """A result of the paper (arXiv 2507.09850) on Comp-Math-24-25, 256 problems x 64 samples; shares."""

    system: str
    pass_at_1: float
    majority_at_64: float


PAPER = (
    Paper("Qwen2.5-32B + SFT on 20 QwQ traces", 0.1710, 0.2773),
    Paper("Qwen2.5-Math-72B-Instruct (baseline)", 0.1172, 0.1614),
)


class Remark(msgspec.Struct):
    """A line of the first screen: a warning, or what to read next. ``tab``: where more is shown, "" for
    nowhere.
    """

    text: str
    tab: str = ""
    error: bool = False


class Headline(msgspec.Struct):
    """``verdict``: helped, hurt, unclear, measured or none; ``sentence`` says it, ``detail`` how sure it is."""

    verdict: str
    sentence: str
    detail: str = ""


class Bar(msgspec.Struct):
    """A row of a forest plot: a value with its interval, None without one. ``ours``: False for the paper's."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    ours: bool = True


class ProblemRow(msgspec.Struct):
    """A problem, and per subject the share of its samples that are right; ``sample``: of each subject a
    right sample (else its first), to be read side by side.
    """

    problem_id: str
    subset: str | None
    right: dict[str, float]
    sample: dict[str, int]


class LengthSummary(msgspec.Struct):
    """Tokens per sample."""

    count: int
    min: int
    median: float
    mean: float
    max: int


class Histogram(msgspec.Struct):
    """Shares of each group between ``edges`` (one more than shares). ``unit``: of the axis."""

    name: str
    unit: str
    edges: list[float]
    shares: dict[str, list[float]]
    means: dict[str, float]


class Disagreement(msgspec.Struct):
    """A sample on which NeMo-Skills' rule and our grader differ."""

    subject: str
    problem_id: str
    sample: int
    expected: str
    ours: str
    reason: str
    answer: str
    nemo_skills_answer: str
    nemo_skills_right: bool


class TraceCurve(msgspec.Struct):
    """The mean loss per trained token of one training trace over the steps that drew it, and the share of
    ``tokens`` of which the likeliest was right; ``learned``: the first step at half of its first loss or
    less, None if never.
    """

    trace: str
    tokens: int
    steps: list[int]
    losses: list[float]
    accuracies: list[float]
    learned: int | None = None


class MeasureRow(msgspec.Struct):
    """A measure of structure, of every set of traces: the pool, the chosen ones, what each subject wrote."""

    name: str
    unit: str
    sets: dict[str, MeasureFigure]


class ChangedKey(msgspec.Struct):
    """A key of the config whose value is not the default's."""

    key: str
    value: Any
    default: Any


class Provenance(msgspec.Struct):
    """How the run was made. ``command`` reproduces it, "" if unknown; ``stages``: the manifests of the finished ones."""

    command: str
    changed: list[ChangedKey]
    stages: list[Manifest]
    missing: list[str]


class OnProblems(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One set of problems, and what ``pair``, two subjects or runs, got on each of them. ``sensitivity``: the smallest
    true difference of pass@1 that would be shown with a power of 80 %.
    """

    sensitivity: float | None = None
    pair: list[str] = []
    problems: list[ProblemRow] = []
    lengths: Histogram | None = None
    length_summaries: dict[str, LengthSummary] = {}


class SetResults(OnProblems, kw_only=True, omit_defaults=True):
    """A run on one held-out set. ``budgets``: pass@1 if answers longer than k tokens counted as wrong.
    """

    scores: Scores | None = None
    papers_benchmark: bool = False
    budgets: dict[str, list[Point]] = {}
    disagreements: list[Disagreement] = []


class RunResults(SetResults, kw_only=True, omit_defaults=True):
    """One run. What it lacks is empty. Its own held-out problems stand at the top, and make the headline; ``sets``: the
    further ones (evaluate.sets). ``like_chosen``: Pearson's r of each set's transitions between kinds of steps with
    those of the chosen traces.
    """

    kind: str = "run"
    name: str
    title: str
    headline: Headline
    remarks: list[Remark] = []
    read_next: list[Remark] = []
    forest: list[Bar] = []
    paper: list[Paper] = []
    sets: dict[str, SetResults] = {}
    steps: list[StepMetrics] = []
    token_accuracy: list[float] = []
    trace_curves: list[TraceCurve] = []
    dropped: dict[str, int] = {}
    packing: PackingFigures | None = None
    selected: list[SelectionRow] = []
    structure: list[MeasureRow] = []
    like_chosen: dict[str, float | None] = {}
    provenance: Provenance
    failed: list[str] = []
    stale: list[str] = []
    damaged: list[str] = []


class RunColumn(msgspec.Struct):
    """A run of a comparison, for its provenance."""

    run: str
    command: str
    changed: list[ChangedKey]
    stages: list[Manifest]


class ComparedSet(OnProblems, kw_only=True, omit_defaults=True):
    """Several runs, or subjects of runs, on the same problems."""

    comparison: Comparison


class ComparisonResults(ComparedSet, kw_only=True, omit_defaults=True):
    """The runs on their own held-out problems, which make the headline; ``sets``: on the further ones that all have."""

    kind: str = "comparison"
    name: str
    title: str
    headline: Headline
    remarks: list[Remark] = []
    read_next: list[Remark] = []
    forest: list[Bar] = []
    paper: list[Paper] = []
    sets: dict[str, ComparedSet] = {}
    runs: list[RunColumn] = []
