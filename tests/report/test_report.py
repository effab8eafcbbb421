"""The report: its figures are those of the run, and nothing untrusted gets through."""

import base64
import hashlib
import re

import msgspec
import pytest

from nemo_cot.errors import UserError
from nemo_cot.evaluation.scores import score
from nemo_cot.io.paths import CHAIN_FILE
from nemo_cot.records import StageEnd, TraceLoss
from nemo_cot.report import facts
from nemo_cot.report.build import write_report
from nemo_cot.report.collect import Evaluated, Findings, collect, read_manifests, stale_stages
from nemo_cot.report.run_results import run_results
from nemo_cot.report.svg import curve_chart, forest, histogram, line_chart
from nemo_cot.report.untrusted import fenced, markdown_cell
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import Artifact, Manifest, write_manifest
from tests.report.made import HOSTILE, evaluation, findings, graded, trace


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
    assert re.search(r"\| 75.0 % \[[\d., ]+\], 3 of 4 \| 100.0 % \[[\d., ]+\], 2 of 2 \| 50.0 %", part)
    assert "<summary>base, by subset</summary>" in html and "hmmt&lt;b&gt;|x (1)" in html
    for text in written(tmp_path, with_subsets({"a": "aime", "b": "aime"})):
        assert "by subset" not in text
    for text in written(tmp_path, with_subsets({})):
        assert "by subset" not in text


def test_a_further_set_stands_under_its_name_and_the_headline_is_of_the_runs_own(tmp_path):
    rows = graded()
    quiz = {"base": rows["trained"], "trained": rows["base"][:2]}  # problem a alone, half of it right
    quiz["base"] = [row for row in quiz["base"] if row.problem_id == "a"]
    found = findings(sets={"quiz": Evaluated(score(quiz, evaluation()), quiz)})
    plain, results = run_results(findings(), "t"), run_results(found, "t")
    assert (results.headline, results.forest, results.pair, results.problems) == (plain.headline, plain.forest, plain.pair, plain.problems)
    assert results.scores == plain.scores and results.sets["quiz"].scores == found.sets["quiz"].scores
    assert [(p.problem_id, p.right) for p in results.sets["quiz"].problems] == [("a", {"base": 1.0, "trained": 0.5})]
    assert "quiz: Only 1 problem." in [remark.text for remark in results.remarks]
    assert any(remark.text.startswith("quiz: ") and "from 100.0 % to 50.0 %" in remark.text for remark in results.read_next)
    markdown, html = written(tmp_path, found)
    line = next(line for line in markdown.splitlines() if line.startswith("| quiz "))
    assert "| 100.0 % [" in line and "| 50.0 % [" in line and "| -50.0 [" in line
    own = next(line for line in markdown.splitlines() if line.startswith("| held\\-out problems "))
    assert "| 25.0 % [" in own and "| 75.0 % [" in own and "+50.0 [" in own
    assert 'data-path="sets.quiz.scores.learning_effect.lenient">-50.0' in html
    assert 'data-path="scores.learning_effect.lenient">+50.0' in html
    strict = [f'data-path="sets.quiz.scores.subjects.{name}.strict">{value}' for name, value in (("base", 100.0), ("trained", 0.0))]
    assert all(cell in html for cell in strict)


def test_curves_over_k_are_drawn_and_listed(tmp_path):
    found = findings()
    markdown, html = written(tmp_path, found)
    assert "| k | base: pass@k |" in markdown and "200 subsets of k samples" in markdown
    assert "trained: maj@k, votes by equality, k = 2" in html
    curves = html.split("<h2>Over the number of samples</h2>")[1].split("<h2>")[0]
    assert curves.count("<polygon") == 6
    alone = score({"trained": [trace("a", 0, "right"), trace("b", 0, "wrong")]}, evaluation(1))
    for text in written(tmp_path, findings(scores=alone)):
        assert "Over the number of samples" not in text


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
        assert "17.10 %" in text
        assert "this run: trained" in text
        assert "only if problems and samples are the same" in text
        trained = found.scores.subjects["trained"]
        assert f"{100 * trained.nemo_skills_majority.value:.2f} %" in text and "2 x 2" in text
    empty = findings(scores=None, samples={})
    for text in written(tmp_path, empty):
        assert "this run:" not in text and "No result" in text


def test_report_names_what_failed_and_what_is_missing(tmp_path):
    chain = [
        StageEnd(stage="pack", outcome="failed", exit_code=2),
        StageEnd(stage="train", outcome="not run: it needs pack", exit_code=None),
    ]
    gone = {"train": "train/manifest.json: damaged"}
    found = findings(
        chain=chain, scores=None, samples={}, damaged=gone, expected=["problems", "train", "pack"]
    )
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
    page = shell(html)
    assert "<script" not in page and "<img" not in page and "<h1>owned" not in page
    assert page.count("&lt;script&gt;") >= 3
    outside = re.sub(r"(`{4,})text\n.*?\n\1", "", markdown, flags=re.S)
    assert not re.search(r"(?<!\\)<(script|img|h1)", outside)


def test_html_asks_for_nothing_from_outside(tmp_path):
    _, html = written(tmp_path, findings())
    assert not re.search(r"""\ssrc\s*=""", shell(html))
    assert all(link.startswith("#") for link in re.findall(r"""href="([^"]*)""", shell(html)))
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert "url(" not in style and "@import" not in style and "@font-face" not in style
    assert "default-src 'none'" in html and "unsafe" not in html.partition("</head>")[0]


def shell(html: str) -> str:
    """The page without its own scripts and data."""
    return re.sub(r"<script[^>]*>.*?</script>", "", html, flags=re.S)


def test_the_policy_allows_this_files_scripts_and_styles_by_their_hashes(tmp_path):
    _, html = written(tmp_path, findings())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1].replace(
        "&#39;", "'"
    )
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert len(scripts) == 2
    for text in (*scripts, re.search(r"<style>(.*?)</style>", html, re.S)[1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "require-trusted-types-for 'script'" in policy and "base-uri 'none'" in policy


@pytest.mark.parametrize("text", ["plain", "```\ncode\n```", "a ```` b", "`" * 9])
def test_fence_is_longer_than_any_run_inside(text):
    block = fenced(text)
    fence = re.match(r"`+", block).group()
    assert fence not in text and block.endswith("\n" + fence)


def test_markdown_cell_is_one_inert_line():
    assert markdown_cell("a|b\n# c *d* <e>") == "a\\|b \\# c \\*d\\* \\<e\\>"


def test_line_chart_has_a_mark_a_point_and_escapes_labels():
    chart = line_chart({"<i>": [(1, 2.0), (2, 1.0), (3, 0.5)]}, x_label="<b>", y_label="loss")
    assert chart.count("<circle") == 3 and "<b>" not in chart and "<i>" not in chart
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart)]
    assert heights == sorted(heights), "a falling loss goes down the page"


def test_histogram_shares_sum_to_one_and_empty_input_gives_nothing():
    found = facts.histogram("tokens", "tokens", {"a": [1, 1, 1, 9], "b": [5], "none": []}, bins=4)
    assert found.shares == {"a": [0.75, 0, 0, 0.25], "b": [0, 0, 1, 0]} and found.edges == [1, 3, 5, 7, 9]
    assert found.means == {"a": 3, "b": 5} and "a: mean 3" in histogram(found)
    assert facts.histogram("tokens", "", {"a": []}) is None
    assert (
        histogram(None) == "" and line_chart({"a": []}, x_label="x", y_label="y") == "" and forest([]) == ""
    )


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


def test_token_accuracy_and_the_traces_by_when_they_were_learned(tmp_path):
    steps = [msgspec.structs.replace(row, token_accuracy=row.step / 4) for row in findings().steps]
    losses = [
        TraceLoss(s, name, 0, loss / s**power, 1 - 0.5 / s, 9, 3)
        for s in (1, 2, 3)
        for name, loss, power in (("a|b", 1.0, 0.1), ("<i>", 3.0, 1))
    ]
    markdown, html = written(tmp_path, findings(steps=steps, trace_losses=losses))
    for text in (markdown, shell(html)):
        assert "loss 2.0000 to 1.0000, token accuracy 25.0 % to 50.0 %" in text
        assert "3.0000 to 1.0000" in text and "50.0 % to 83.3 %" in text
        assert text.index("3.0000 to 1.0000") < text.index("1.0000 to 0.89"), "the one that is learned first"
    assert "| 2 | 1.0000 | 50.0 % |" in markdown and "a\\|b, 0" in markdown
    assert "&lt;i&gt;, 0" in html and "<i>, 0" not in shell(html) and "never" in html
    before = written(tmp_path, findings())
    assert all(
        "learned first" not in text and "token accuracy" not in text for text in (before[0], shell(before[1]))
    )
