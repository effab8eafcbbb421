"""The report in a real browser: hostile text does not run, nothing is fetched, the charts are drawn."""

import re
import shutil
import subprocess

import pytest

from nemo_cot.report.build import write_report
from tests.report.test_report import HOSTILE, findings, trace, with_subsets

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--disable-quic",
    "--virtual-time-budget=2000",
)


def dom(page, profile) -> str:
    """The document after its scripts, if any, have run."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_check_itself_notices_a_script(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>clean</title><script>document.title='owned'</script>")
    assert "<title>owned</title>" in dom(page, tmp_path / "profile")


def test_hostile_report_does_not_run(tmp_path):
    row = trace("a", 0, "right", text=HOSTILE)
    row.problem = row.expected_answer = HOSTILE
    write_report(
        findings(traces=[row], samples={"trained": [row]}), tmp_path, title="clean", num_traces_shown=4
    )
    shown = dom(tmp_path / "report.html", tmp_path / "profile")
    assert "<title>clean</title>" in shown
    assert "<img" not in shown and "<script" not in shown
    assert shown.count("<svg") == 4 and "<circle" in shown and "<polyline" in shown


def test_subsets_and_curves_are_shown_and_do_not_run(tmp_path):
    found = with_subsets({"a": "aime24", "b": HOSTILE})
    write_report(found, tmp_path, title="clean", num_traces_shown=0)
    shown = dom(tmp_path / "report.html", tmp_path / "profile")
    assert "<title>clean</title>" in shown and "<img" not in shown and "<script" not in shown
    assert "<h3>trained, by subset</h3>" in shown and "&lt;script&gt;" in shown
    tables = re.findall(r"<table>.*?</table>", shown, re.S)
    [over_k] = [t for t in tables if "<th>k</th>" in t]
    assert over_k.count("<tr>") == 3 and "trained: maj@k, votes by equality" in over_k
    assert shown.count("<polygon") == 6 and shown.count("<polyline") == 7, "six curves and the loss"
