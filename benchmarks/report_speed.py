"""The report at the paper's size: 256 problems x 64 samples of about 3K tokens, two subjects.

    python benchmarks/report_speed.py [--problems 256] [--samples 64] [--tokens 3000] [--keep FOLDER] [--chromium PATH]

Makes graded samples (words by Zipf's law, formulas, marks of reflection), scores them, writes the report in a
process of its own, and opens it in headless Chromium from disk, from a cold start. Prints the figures beside
their bars. Times in the browser are those of the page's own clock: "usable" is when list, filters and the
first text answer; a filter and a sample are timed to the end of the next frame, the median and the worst of
20.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from machine import describe_machine

from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.records import Trace

ROOT = Path(__file__).resolve().parents[1]
WORK = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
started = time.monotonic()
from nemo_cot.experiment.compose import load_config
from nemo_cot.report.build import write_report
from nemo_cot.report.collect import collect
from nemo_cot.stages import RunDirectory
out = Path(sys.argv[2])
found = collect(RunDirectory(Path(sys.argv[1])), "bench")
cfg = load_config([])
write_report(found, out, title="bench", num_traces_shown=4, marks=cfg.marks, max_bytes=round(cfg.report.max_megabytes * 1e6))
print(time.monotonic() - started, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
FRAME = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));"
FILTER = f"""async (n) => {{
  const started = performance.now();
  const field = document.getElementById(n % 2 ? "f-verdict" : "f-min");
  field.value = n % 2 ? String(n % 3) : String(500 + 100 * n);
  field.dispatchEvent(new Event("input", {{bubbles: true}}));
  {FRAME}
  return performance.now() - started;
}}"""
SAMPLE = f"""async () => {{
  const started = performance.now();
  document.dispatchEvent(new KeyboardEvent("keydown", {{key: Math.random() < 0.5 ? "j" : "ArrowRight", bubbles: true}}));
  await window.viewer.drawn;
  {FRAME}
  return performance.now() - started;
}}"""
SEARCH = """async (word) => {
  const started = performance.now();
  const field = document.getElementById("f-text");
  field.value = word;
  await window.viewer.searchNow();
  return performance.now() - started;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=3000)
    parser.add_argument("--keep", type=Path, help="where the made-up run stays, and is found the next time")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="report-") as scratch:
        run, out = options.keep or Path(scratch) / "run", Path(scratch) / "out"
        out.mkdir()
        if not (run / "evaluate/scores/metrics.json").exists():
            make_run(run, options)
        print(describe_machine())
        done = subprocess.run(
            [sys.executable, "-c", WORK, str(run), str(out), str(ROOT)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        seconds, cpu, peak = map(float, done.stdout.split()[-3:])
        size = (out / "report.html").stat().st_size
        texts = sum(p.stat().st_size for p in (run / "evaluate/scores").glob("*.jsonl"))
        print(f"\n{2 * options.problems * options.samples:,} samples, {texts / 1e6:.0f} MB of rows\n")
        print("| measure | bar | measured |\n|---|---|---|")
        print(f"| build, 2 cores | 60 s, 3 GB | {seconds:.1f} s ({cpu:.1f} s of CPU), {peak / 1e9:.2f} GB |")
        print(f"| file | 60 MB, or a rule | {size / 1e6:.1f} MB |")
        if options.chromium:
            in_browser(out / "report.html", options.chromium)


def in_browser(page: Path, chromium: str) -> None:
    """The rows of the table that are measured in the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.goto(page.as_uri(), wait_until="commit", timeout=60_000)
        opened.wait_for_selector("body[data-ready=yes]", timeout=60_000)
        opened.wait_for_load_state("load", timeout=60_000)
        paint = opened.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
        usable = opened.evaluate("() => performance.getEntriesByName('usable')[0].startTime")
        rule = opened.evaluate("() => document.querySelector('#traces > p')?.textContent")
        opened.evaluate("() => { location.hash = '#traces'; }")
        opened.wait_for_timeout(300)
        filters = [opened.evaluate(FILTER, n) for n in range(20)]
        opened.evaluate("() => { document.getElementById('filters').reset(); }")
        opened.wait_for_timeout(300)
        samples = [opened.evaluate(SAMPLE) for _ in range(20)]
        search = opened.evaluate(SEARCH, "no such text anywhere")
        browser.close()
    print(f"| open to first paint, to usable | 1 s, 2 s | {paint / 1000:.2f} s, {usable / 1000:.2f} s |")
    for name, bar, found in (("a filter", 200, filters), ("a sample", 100, samples)):
        print(
            f"| {name}, median and worst of 20 | {bar} ms | {statistics.median(found):.0f} ms, {max(found):.0f} ms |"
        )
    print(f"| full-text search over all texts | - | {search / 1000:.1f} s |")
    print(f"\n{rule}")


def make_run(run: Path, options: argparse.Namespace) -> None:
    """Graded samples of two subjects and their scores, as the stage evaluate/scores leaves them."""
    from nemo_cot.evaluation.scores import score
    from nemo_cot.experiment.compose import load_config
    from nemo_cot.io.atomic import write_bytes

    folder = run / "evaluate/scores"
    folder.mkdir(parents=True)
    rng = random.Random(0)
    sentences = list(made_sentences(rng, 20_000))
    graded = {}
    for subject, rate in (("base", 0.05), ("trained", 0.2)):
        graded[subject] = list(made_rows(rng, sentences, options, rate))
        write_jsonl(folder / f"{subject}.jsonl", graded[subject])
    cfg = load_config(
        [f"evaluate.samples_per_problem={options.samples}", "evaluate.bootstrap_resamples=1000"]
    )
    write_bytes(folder / "metrics.json", msgspec.json.encode(score(graded, cfg.evaluate)))


def made_sentences(rng: random.Random, count: int) -> Iterator[str]:
    letters = "etaoinshrdlucmfwypvbgk"
    words = [
        "".join(rng.choices(letters, range(len(letters), 0, -1), k=rng.randint(2, 9))) for _ in range(4000)
    ]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    openings = [
        "Wait, ",
        "Let me check: ",
        "So ",
        "Alternatively, ",
        "Therefore ",
        "Hmm, ",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    for _ in range(count):
        text = " ".join(rng.choices(words, weights, k=rng.randint(6, 18)))
        if rng.random() < 0.5:
            a, b, c = (rng.randint(1, 999) for _ in range(3))
            text += rng.choice(
                [
                    f" $x^{{{a}}} + {b} = \\frac{{{c}}}{{{a}}}$",
                    f" \\[ \\sqrt{{{a}}} \\le {b} \\]",
                    f" \\({a} \\cdot {b}\\)",
                ]
            )
        yield rng.choice(openings) + text + rng.choice([". ", ". ", ".\n\n"])


def made_rows(
    rng: random.Random, sentences: list[str], options: argparse.Namespace, rate: float
) -> Iterator[Trace]:
    """``rate``: the mean share of right answers; problems differ."""
    for number in range(options.problems):
        own = rng.betavariate(rate * 2, (1 - rate) * 2)
        for sample in range(options.samples):
            tokens = round(options.tokens * rng.uniform(0.5, 1.5))
            right = rng.random() < own
            answer = str(number if right else rng.randint(1000, 9999))
            text = "".join(rng.choices(sentences, k=tokens * 10 // 300)) + f"\\boxed{{{answer}}}"
            yield Trace(
                problem_id=f"problem-{number}", sample=sample, problem=f"Find $n$ with $n = {number}$.",
                expected_answer=str(number), generation=text, num_generated_tokens=tokens,
                finish_reason="stop" if rng.random() < 0.9 else "length",
                subset_for_metrics="aime24" if number < 30 else "aime25" if number < 60 else "hmmt-24-25",
                predicted_answer=answer, answer_source="boxed", verdict="right" if right else "wrong",
                verdict_reason="exact", symbolic_correct=right, nemo_skills_answer=answer, grader_version="3",
                lineage=[{"made_by": "bench", "seed": sample}],
            )  # fmt: skip


if __name__ == "__main__":
    main()
