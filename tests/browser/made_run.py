"""A made-up run with what the viewer shows: subsets, mathematics, thinking, marks, lineage, several sets."""

import random

from nemo_cot.evaluation.scores import score
from nemo_cot.experiment.compose import load_config
from nemo_cot.records import StepMetrics, Trace, TraceLoss
from nemo_cot.report.build import write_report
from nemo_cot.report.collect import Findings
from nemo_cot.report.results import ChangedKey
from nemo_cot.traces.candidates import SelectionRow
from tests.report.made import evaluation, text_sets
from tests.report.test_report import manifest

TEXT = (
    "<think>\nFirst, let $x = {a}$ and note that\n\n\\[ \\frac{{x}}{{2}} + \\sqrt{{x}} = y_{{{a}}} \\]\n\n"
    "Wait, that is not right. Let me check: {a} + 1 = {b}.\n\nAlternatively, use \\(x^2\\).\n</think>\n\n"
    "Therefore the answer is \\boxed{{{b}}}."
)


def rows(subject: str, problems: int, samples: int, rate: float) -> list[Trace]:
    """Graded samples; the share of right ones is about ``rate``."""
    draw, found = random.Random(subject), []
    for number in range(problems):
        for sample in range(samples):
            verdict = "right" if draw.random() < rate else draw.choice(["wrong", "wrong", "undecided"])
            answer = number + 1 if verdict == "right" else draw.randint(100, 999)
            found.append(
                Trace(
                    problem_id=f"p-{number}", sample=sample, problem=f"What is ${number} + 1$?", expected_answer=str(number + 1),
                    generation=TEXT.format(a=number, b=answer), num_generated_tokens=20 + draw.randint(0, 200),
                    finish_reason="length" if draw.random() < 0.1 else "stop", predicted_answer=str(answer),
                    answer_source="boxed", verdict=verdict, verdict_reason="exact", symbolic_correct=verdict == "right",
                    subset_for_metrics="even" if number % 2 == 0 else "odd", grader_version="3",
                    lineage=[{"made_by": subject, "seed": sample}, {"stage": "grade"}],
                )
            )  # fmt: skip
    return found


def selected(t: Trace, row: int, rank: int | None) -> SelectionRow:
    return SelectionRow(
        problem_id=t.problem_id, sample=t.sample, row=row, chosen=rank is not None, rule="target", rank=rank,
        num_student_tokens=50, pass_rate=0.5,
    )  # fmt: skip


def findings(problems: int = 12, samples: int = 8) -> Findings:
    """A whole run."""
    graded = {
        "base": rows("base", problems, samples, 0.2),
        "trained": rows("trained", problems, samples, 0.7),
    }
    pool = rows("pool", 5, 6, 0.5)
    chosen = [row for row in pool if row.verdict == "right"][:4]
    steps = [
        StepMetrics(
            step=s,
            loss=2.0 / s,
            lr=1e-4 / s,
            grad_norm=1.0 + 1 / s,
            packs=1,
            tokens=5,
            seconds=1.0,
            tokens_per_second=5.0,
            token_accuracy=1 - 0.5 / s,
        )
        for s in range(1, 9)
    ]
    losses = [
        TraceLoss(
            step=s,
            problem_id=t.problem_id,
            sample=t.sample,
            loss=2.0 / s**power,
            token_accuracy=0.5,
            tokens=9,
            draws=2,
        )
        for power, t in enumerate(chosen, start=1)
        for s in range(1, 9)
    ]
    picked = {(t.problem_id, t.sample): rank for rank, t in enumerate(chosen)}
    return Findings(
        name="made", manifests={"train": manifest("train", {}, {"model": "abc"}, lr=0.125)}, scores=score(graded, evaluation(samples)),
        samples=graded, traces=chosen, steps=steps, trace_losses=losses, dropped={"verdict_wrong": 7, "too_long": 3},
        selection=[selected(t, row, picked.get((t.problem_id, t.sample))) for row, t in enumerate(pool)],
        texts=text_sets({"trained": graded["trained"], "base": graded["base"], "chosen": chosen, "pool": pool}),
        command="nemo-cot run \\\n  name=made", changed=[ChangedKey("train.optim.lr", 0.125, 0.0001)],
    )  # fmt: skip


def written(found: Findings, folder, **options):
    """The page of ``found``, and its results."""
    results = write_report(
        found, folder, title="made: a run", num_traces_shown=2, marks=load_config([]).marks, **options
    )
    return folder / "report.html", results
