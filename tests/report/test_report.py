"""The report: its figures are those of the run, and nothing untrusted gets through."""

import re

import msgspec
import pytest

from nemo_cot.config import EvaluateConfig, SamplingConfig
from nemo_cot.config.engines import EngineConfig
from nemo_cot.config.examples import ExamplesConfig
from nemo_cot.errors import UserError
from nemo_cot.evaluation.scores import score
from nemo_cot.io.paths import CHAIN_FILE
from nemo_cot.records import StageEnd, StepMetrics, Trace, TraceLoss
from nemo_cot.report.build import fenced, markdown_cell, write_report
from nemo_cot.report.collect import Findings, collect, read_manifests, stale_stages
from nemo_cot.report.svg import curve_chart, histogram, line_chart
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import Artifact, Manifest, write_manifest

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
    return EvaluateConfig(subjects, {}, samples, 0, sampling, engine, 1000, 0.95, 1, examples, [8, 16], "cut")


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


def written(tmp_path, found: Findings, title: str = "t") -> tuple[str, str]:
    write_report(found, tmp_path, title=title, num_traces_shown=4)
    return (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()


def test_scores_keep_lenient_strict_and_format_apart():
    scores = score(graded(), evaluation())
    base, trained = scores.subjects["base"], scores.subjects["trained"]
    assert (base.lenient.count, base.strict.count, base.format_rate.count, base.lenient.total) == (1, 0, 3, 4)
    assert (trained.lenient.count, trained.strict.count, trained.format_rate.count) == (3, 3, 4)
    assert (base.undecided.value, base.undecided.count, base.undecided.total) == (0.25, 1, 4)
    assert scores.learning_effect["lenient"].value == pytest.approx(0.5)
    assert scores.learning_effect["strict"].value == pytest.approx(0.75)
    assert base.lenient.low <= base.lenient.value <= base.lenient.high


def test_scores_do_not_depend_on_the_order_of_rows():
    rows = graded()
    backwards = {name: group[::-1] for name, group in rows.items()}
    ours, theirs = score(rows, evaluation()), score(backwards, evaluation())
    assert ours.subjects["base"].strict.count == theirs.subjects["base"].strict.count


def test_report_states_the_effect_and_the_counts(tmp_path):
    markdown, html = written(tmp_path, findings())
    for text in (markdown, html):
        assert "+50.0 points" in text
        assert "3 of 4" in text
        assert "17.10 %" in text
        assert "2.0000 to 1.0000" in text


def test_every_figure_of_the_table_has_its_interval(tmp_path):
    found = findings()
    markdown, html = written(tmp_path, found)
    rows = [line for line in markdown.split("## Results")[1].split("###")[0].splitlines() if "| " in line]
    assert len(rows) == 14, "13 figures below their head"
    for row in rows[1:]:
        assert all(re.search(r"\[[\d.]+, [\d.]+\]", cell) for cell in row.split("|")[2:4]), row
    majority = found.scores.subjects["base"].majority_equivalence
    assert f"[{100 * majority.low:.1f}, {100 * majority.high:.1f}]" in html
    assert "+50.0 [+0.0, +100.0]" in markdown, "the paired change stands beside"


def with_subsets(names: dict[str, str]) -> Findings:
    """The findings above, their problems in the named subsets."""
    rows = graded()
    for row in [row for group in rows.values() for row in group]:
        row.subset_for_metrics = names.get(row.problem_id)
    return findings(samples=rows, scores=score(rows, evaluation()))


def test_subsets_stand_beside_the_total_where_there_are_several(tmp_path):
    markdown, html = written(tmp_path, with_subsets({"a": "aime", "b": "hmmt<b>|x"}))
    assert "| measure | all \\(2\\) | aime \\(1\\) | hmmt\\<b\\>\\|x \\(1\\) |" in markdown
    part = markdown.split("trained, by subset")[1]
    assert "| 75.0 % [50.0, 100.0], 3 of 4 | 100.0 % [100.0, 100.0], 2 of 2 | 50.0 %" in part
    assert "<h3>base, by subset</h3>" in html and "hmmt&lt;b&gt;|x (1)" in html
    for text in written(tmp_path, with_subsets({"a": "aime", "b": "aime"})):
        assert "by subset" not in text
    for text in written(tmp_path, with_subsets({})):
        assert "by subset" not in text


def test_curves_over_k_are_drawn_and_listed(tmp_path):
    found = findings()
    markdown, html = written(tmp_path, found)
    assert "| k | base: pass@k |" in markdown and "200 subsets of k samples" in markdown
    assert "trained: maj@k, votes by equality, k = 2" in html and html.count("<polygon") == 6
    alone = score({"trained": [trace("a", 0, "right"), trace("b", 0, "wrong")]}, evaluation(1))
    for text in written(tmp_path, findings(scores=alone)):
        assert "Over the number of samples" not in text and "polygon" not in text


def test_a_curve_chart_rises_with_its_values_and_escapes_names():
    curves = {"<b>": [(1, 0.2, 0.1, 0.3), (2, 0.4, 0.3, 0.5), (6, 0.6, 0.5, 0.7)]}
    chart = curve_chart(curves, x_label="k", y_label="pass@k")
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart)]
    assert heights == sorted(heights, reverse=True) and "<b>" not in chart
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', chart)]
    assert places[1] - places[0] < places[2] - places[1] < 2 * (places[1] - places[0]), "logarithmic: 2 and 3"
    assert "k = 2: 40.0% [30.0%, 50.0%]" in chart
    assert curve_chart({}, x_label="k", y_label="pass@k") == ""


def test_what_was_measured_stands_beside_the_papers_figures(tmp_path):
    found = findings()
    for text in written(tmp_path, found):
        assert (
            "17.10 %" in text
            and "this run: trained" in text
            and "only if problems and samples are the same" in text
        )
        trained = found.scores.subjects["trained"]
        assert f"{100 * trained.nemo_skills_majority.value:.2f} %" in text and "2 x 2" in text
    empty = findings(scores=None, samples={})
    for text in written(tmp_path, empty):
        assert "17.10 %" in text and "here:" not in text


def test_report_names_what_failed_and_what_is_missing(tmp_path):
    chain = [
        StageEnd(stage="pack", outcome="failed", exit_code=2),
        StageEnd(stage="train", outcome="not run: it needs pack", exit_code=None),
    ]
    gone = {"train": "train/manifest.json: damaged"}
    found = findings(chain=chain, scores=None, samples={}, damaged=gone, expected=["problems", "train", "pack"])
    for text in written(tmp_path, found):
        assert "The last chain did not finish" in text
        assert "pack: failed, exit code 2" in text
        assert "Not run: problems, pack" in text


def manifest(stage: str, inputs: dict[str, str], outputs: dict[str, str], **config) -> Manifest:
    def artifacts(shas: dict[str, str]) -> dict[str, Artifact]:
        return {path: Artifact(path=path, sha256=sha, num_bytes=1) for path, sha in shas.items()}

    return Manifest(
        stage=stage,
        stage_version=1,
        fingerprint="f",
        config=config,
        settings={},
        inputs=artifacts(inputs),
        outputs=artifacts(outputs),
        seeds={},
        code={"revision": None, "dirty": None},
        packages={},
        hardware={},
        finished_at="2026-01-01",
        wall_seconds=1.0,
        attempts=1,
    )


def test_results_of_an_earlier_run_are_named(tmp_path):
    manifests = {
        "pack": manifest("pack", {}, {"sequences.jsonl": "new"}),
        "train": manifest("train", {"pack/sequences.jsonl": "old"}, {"model": "m"}),
        "evaluate/trained": manifest("evaluate/trained", {"train/model": "m"}, {"generations.jsonl": "g"}),
    }
    assert findings(manifests=manifests).stale == ["train", "evaluate/trained"]
    for text in written(tmp_path, findings(manifests=manifests)):
        assert "made again: train, evaluate/trained" in text
    manifests["train"].inputs["pack/sequences.jsonl"].sha256 = "new"
    assert findings(manifests=manifests).stale == []


def test_the_config_shown_is_the_one_of_the_manifests(tmp_path):
    made_with = {"train": manifest("train", {}, {"model": "m"}, lr=0.125)}
    for text in written(tmp_path, findings(manifests=made_with)):
        assert "lr: 0.125" in text


def test_terminal_escapes_do_not_reach_the_report(tmp_path):
    rows = [trace("a", 0, "right", text="a\x1b[31mb\x07")]
    rows[0].problem = "c\x1b[0m"
    for text in written(tmp_path, findings(traces=rows)):
        assert "\x1b" not in text and "\x07" not in text


def test_hostile_text_stays_text(tmp_path):
    rows = [trace("a", 0, "right", text=HOSTILE)]
    rows[0].problem_id = rows[0].problem = rows[0].expected_answer = rows[0].predicted_answer = HOSTILE
    rows[0].symbolic_correct = False
    markdown, html = written(tmp_path, findings(traces=rows, samples={"trained": rows}), title=HOSTILE)
    assert "<script" not in html and "<img" not in html and "<h1>owned" not in html
    assert html.count("&lt;script&gt;") >= 3
    outside = re.sub(r"(`{4,})text\n.*?\n\1", "", markdown, flags=re.S)
    assert not re.search(r"(?<!\\)<(script|img|h1)", outside)


def test_html_asks_for_nothing_from_outside(tmp_path):
    _, html = written(tmp_path, findings())
    assert not re.search(r"""(src|href)\s*=""", html)
    assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html


@pytest.mark.parametrize("text", ["plain", "```\ncode\n```", "a ```` b", "`" * 9])
def test_fence_is_longer_than_any_run_inside(text):
    block = fenced(text)
    fence = re.match(r"`+", block).group()
    assert fence not in text and block.endswith("\n" + fence)


def test_markdown_cell_is_one_inert_line():
    assert markdown_cell("a|b\n# c *d* <e>") == "a\\|b \\# c \\*d\\* \\<e\\>"


def test_line_chart_has_a_mark_a_point_and_escapes_labels():
    chart = line_chart([(1, 2.0), (2, 1.0), (3, 0.5)], x_label="<b>", y_label="loss")
    assert chart.count("<circle") == 3 and "<b>" not in chart
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart)]
    assert heights == sorted(heights), "a falling loss goes down the page"


def test_histogram_shares_sum_to_one_and_empty_input_gives_nothing():
    chart = histogram({"a": [1, 1, 1, 9], "b": [5]}, x_label="tokens", bins=4)
    assert sum(int(p) for p in re.findall(r"a: (\d+)%", chart)) == 100
    assert histogram({"a": []}, x_label="tokens") == "" and line_chart([], x_label="x", y_label="y") == ""


def test_other_subjects_and_chunks_are_found_in_the_run(tmp_path):
    """evaluate/baseline is read like base; its chunks stand before it, a former chunking's do not."""
    run = RunDirectory(tmp_path / "run").create()
    inputs = {f"chunk-00{i}": f"evaluate/baseline.chunks/chunk-00{i}/generations.jsonl" for i in range(2)}
    for name in ("evaluate/baseline/chunk-000", "evaluate/baseline/chunk-001", "evaluate/baseline/chunk-002"):
        write_stage(run, name, {})
    write_stage(run, "evaluate/baseline", inputs)
    write_stage(run, "evaluate/other.partial-0123", {})
    write_stage(run, "evaluate/scores", {})
    assert list(read_manifests(run)) == [
        "evaluate/baseline/chunk-000",
        "evaluate/baseline/chunk-001",
        "evaluate/baseline",
        "evaluate/scores",
    ]
    assert stale_stages(read_manifests(run)) == []
    write_stage(run, "evaluate/baseline/chunk-001", {}, sha="new")
    assert stale_stages(read_manifests(run)) == ["evaluate/baseline"]
    reuses = RunDirectory(tmp_path / "reuses").create()
    write_stage(reuses, "evaluate/baseline", {label: str(run.path / path) for label, path in inputs.items()})
    assert list(read_manifests(reuses)) == ["evaluate/baseline"], "the chunks are another run's"


def write_stage(run: RunDirectory, name: str, inputs: dict[str, str], sha: str = "same") -> None:
    folder = run.stage(name)
    folder.mkdir(parents=True, exist_ok=True)
    made = manifest(name, {}, {"generations.jsonl": sha})
    made.inputs = {
        label: Artifact(path=path, sha256="same", num_bytes=1, part=True) for label, path in inputs.items()
    }
    write_manifest(folder, made)


@pytest.mark.parametrize(
    "content", [b"", b'[{"stage": ', b'{"a": {"b": 1}}', b"null", b"\xff\xfe", b"[1, 2]"]
)
@pytest.mark.parametrize(
    "name", [CHAIN_FILE, "curate/dropped.json", "pack/packing.json", "evaluate/scores/metrics.json"]
)
def test_a_damaged_file_is_named_with_the_fix(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged") as caught:
        collect(RunDirectory(tmp_path), "n")
    assert caught.value.where == str(path) and caught.value.fix.startswith("remove ")


def test_token_accuracy_and_the_traces_by_how_well_they_were_learned(tmp_path):
    steps = [msgspec.structs.replace(row, token_accuracy=row.step / 4) for row in findings().steps]
    losses = [TraceLoss(s, name, 0, loss / s, 1 - 0.5 / s, 9, 3) for s in (1, 2) for name, loss in (("a|b", 1.0), ("<i>", 3.0))]
    markdown, html = written(tmp_path, findings(steps=steps, trace_losses=losses))
    for text in (markdown, html):
        assert "loss 2.0000 to 1.0000, token accuracy 25.0 % to 50.0 %" in text
        assert "3.0000 to 1.5000" in text and text.index("3.0000 to 1.5000") < text.index("1.0000 to 0.5000")
        assert "50.0 % to 75.0 %" in text
    assert "| 2 | 1.0000 | 50.0 % |" in markdown and r"a\|b, 0" in markdown and "&lt;i&gt;, 0" in html and "<i>, 0" not in html
    before = written(tmp_path, findings())
    assert all("worst learned" not in text and "token accuracy 2" not in text for text in before) and "not recorded" in before[0]
