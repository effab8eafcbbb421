"""report: write report.md and report.html about whatever the run has so far."""

from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config_checks import fingerprinted
from nemo_cot.report.build import write_report
from nemo_cot.report.collect import collect, input_files
from nemo_cot.stages import RunDirectory, Stage
from recipes.main import recipe_main


def report(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write report.md and report.html; stages that failed, are stale or have not run are named in them.

    The config that is shown is the one that each stage's manifest holds, so it is the one that the
    figures were made with.
    """

    def work(folder: Path) -> None:
        write_report(
            collect(run, cfg.name),
            folder,
            title=cfg.report.title,
            num_traces_shown=cfg.report.num_traces_shown,
        )

    yield Stage("report", inputs=input_files(run), config={"report": fingerprinted(cfg.report)}, work=work)


if __name__ == "__main__":
    recipe_main(report)
