"""Small made-up runs for tests of reports."""

from nemo_cot.config import EvaluateConfig, SamplingConfig
from nemo_cot.config.engines import EngineConfig
from nemo_cot.config.examples import ExamplesConfig
from nemo_cot.evaluation.scores import score
from nemo_cot.records import StepMetrics, Trace
from nemo_cot.report.collect import Findings
from nemo_cot.report.texts import TextSet

HOSTILE = '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">```\n</pre><h1>owned</h1>'


def trace(
    problem: str, sample: int, verdict: str, *, boxed: bool = True, text: str = "so \\boxed{1}"
) -> Trace:
    return Trace(
        problem_id=problem,
        sample=sample,
        problem=f"What is {problem}?",
        expected_answer="1",
        generation=text,
        num_generated_tokens=10 + sample,
        finish_reason="stop",
        predicted_answer="1",
        verdict=verdict,
        answer_source="boxed" if boxed else "last_number",
        verdict_reason="exact",
        symbolic_correct=verdict == "right",
        grader_version="1",
    )


def evaluation(samples: int = 2) -> EvaluateConfig:
    sampling = SamplingConfig(0.7, 0, 1.0, 16, "fp32", 4, "cpu", True, None)
    examples = ExamplesConfig(4, "as_is", 0, None, "\n", [], None, None)
    subjects, engine = ["base", "trained"], EngineConfig("embedded")
    return EvaluateConfig(subjects, {}, samples, 0, sampling, engine, 1000, 0.95, 1, examples, [8, 16], "cut", {})


def graded() -> dict[str, list[Trace]]:
    base = [
        trace("a", 0, "right", boxed=False),
        trace("a", 1, "wrong"),
        trace("b", 0, "wrong"),
        trace("b", 1, "undecided"),
    ]
    trained = [trace("a", 0, "right"), trace("a", 1, "right"), trace("b", 0, "wrong"), trace("b", 1, "right")]
    return {"base": base, "trained": trained}


def findings(**changes) -> Findings:
    rows = graded()
    fields = {
        "name": "n",
        "manifests": {},
        "scores": score(rows, evaluation()),
        "expected": ["problems", "train"],
        "samples": rows,
        "texts": text_sets(
            changes.get("samples", rows) | ({"chosen": t} if (t := changes.get("traces")) else {})
        ),
        "steps": [
            StepMetrics(
                step=s,
                loss=2.0 / s,
                lr=1e-4,
                grad_norm=1.0,
                packs=1,
                tokens=5,
                seconds=1.0,
                tokens_per_second=5.0,
            )
            for s in (1, 2)
        ],
    }
    return Findings(**{**fields, **changes})


def text_sets(groups: dict[str, list[Trace]]) -> list[TextSet]:
    """The viewer's sets of rows in memory."""
    return [TextSet(name, name, lambda rows=rows: iter(rows)) for name, rows in groups.items()]
