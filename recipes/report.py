"""report: write report.html, report.md and results.json about what the run has so far."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_cot.config import VERDICTS, Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.graph import stage_names
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.report.collect import collect, input_files
from nemo_cot.report.files import MARKDOWN, PAGE, RESULTS
from nemo_cot.stages import RunDirectory, Stage


def report(cfg: Config) -> Iterator[Stage]:
    """Write report.html, report.md and results.json; they name stages that failed, are stale or have not run.

    They show the config in each stage's manifest, which is the one that made the figures.
    """
    title = cfg.report.title or title_of(cfg)

    def work(folder: Path, _: Mapping[str, Path]) -> None:
        from nemo_cot.experiment.reproduce import origin
        from nemo_cot.report.build import write_report

        command, changed = origin(cfg)
        run = RunDirectory(folder.parent)
        found = collect(run, cfg.name, expected=stage_names(cfg), command=command, changed=changed)
        shown, limit = cfg.report.num_traces_shown, round(cfg.report.max_megabytes * 1e6)
        write_report(found, folder, title=title, num_traces_shown=shown, marks=cfg.marks, max_bytes=limit)

    yield Stage(
        "report",
        inputs={},
        found=input_files,
        config={"report": {**fingerprinted(cfg.report), "title": title}},
        work=work,
        writes=(PAGE, MARKDOWN, RESULTS),
        version=2,
    )


def title_of(cfg: Config) -> str:
    """The run's name and content: the model, and the traces if it is trained on some."""
    if "train" not in cfg.launcher.stages and "trained" not in cfg.evaluate.subjects:
        names = (_base_name(cfg) if subject == "base" else subject for subject in cfg.evaluate.subjects)
        return f"{cfg.name}: evaluation of {', '.join(names)}"
    chosen = set(cfg.curate.verdicts)
    verdicts = "" if len(chosen) == len(VERDICTS) else f"{' or '.join(cfg.curate.verdicts)} "
    traces = f"{cfg.curate.num_traces} {verdicts}trace{'s' * (cfg.curate.num_traces > 1)}"
    return f"{cfg.name}: {_base_name(cfg)}, {traces} {cfg.teacher.described}"


def _base_name(cfg: Config) -> str:
    """With model=hf_directory the name is a path."""
    return Path(cfg.model.name).name


if __name__ == "__main__":
    recipe_main(report)
