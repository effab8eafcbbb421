"""report: write report.md and report.html about whatever the run has so far."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.config import Config, fingerprinted
from nemo_cot.report import write_report
from nemo_cot.report.collect import collect, input_files
from nemo_cot.stages import RunDirectory, Stage
from recipes.main import recipe_main


def report(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write report.md and report.html; stages that failed or have not run are named in them."""

    def work(folder: Path) -> None:
        config = msgspec.yaml.encode(dataclasses.asdict(cfg)).decode()
        write_report(collect(run, cfg.name), folder, title=cfg.report.title, config_yaml=config,
                     num_traces_shown=cfg.report.num_traces_shown)

    yield Stage("report", inputs=input_files(run), config={"config": fingerprinted(cfg)}, work=work)


if __name__ == "__main__":
    recipe_main(report)
