"""nemo-cot report: write the report of a run again, from whatever the run has."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.errors import one_line
from nemo_cot.experiment.existing import find_run
from nemo_cot.recipes.report import report
from nemo_cot.stages import run_stage
from nemo_cot.stages.lock import run_lock
from nemo_cot.stages.manifest import MANIFEST


def write_report_again(overrides: Sequence[str]) -> int:
    """Write it even if nothing has changed, and print its path. Raises UserError if there is no such run, or if
    a chain is running in it.
    """
    cfg, run = find_run(overrides)
    [stage] = report(cfg)
    with run_lock(run.path):
        (run.stage(stage.name) / MANIFEST).unlink(missing_ok=True)  # so that the stage is not skipped
        run_stage(stage, run)
    page = run.stage("report") / "report.html"
    print(one_line(f"report: {page}"))
    print("        " + one_line(str(page.with_suffix(".md"))), flush=True)
    return 0
