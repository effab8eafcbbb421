"""The table of docs/experiments.md, out of conf/experiment and conf/study. ``python -m tests.experiment.matrix_table`` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from nemo_cot.experiment.compose import CONF
from nemo_cot.experiment.study import chosen_study
from tests.support import ROOT

PAGE = ROOT / "docs/experiments.md"
_HEAD = "| experiment | what it shows | known figures | in studies |\n|---|---|---|---|\n"
_FIGURE = re.compile(r"(?:(?<=[.?!] )|^)(?:The paper(?:, [^:]*)?: |arXiv [\d.]+[^.]{0,40}: |No figure|An open question|A control|A figure)")


def table() -> str:
    """A row per experiment: its name, the first sentence of its file, the figures that the file names, its studies."""
    runs: dict[str, dict[str, list[str]]] = {}
    for study in sorted(path.stem for path in (CONF / "study").glob("*.yaml")):
        for run in chosen_study([f"study={study}"]).runs:
            name = next(o.partition("=")[2] for o in reversed(run.overrides) if o.startswith("experiment="))
            found = runs.setdefault(name, {}).setdefault(study, [])
            if run.variant not in found:
                found.append(run.variant)
    lines = []
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        what, figure = _texts(path)
        studies = "; ".join(f"{study}: {', '.join(names)}" for study, names in runs.get(path.stem, {}).items())
        lines.append(f"| `{path.stem}` | {what} | {figure} | {studies} |\n".replace("  |", " |"))
    return _HEAD + "".join(lines)


def _texts(path: Path) -> tuple[str, str]:
    comments = path.read_text().partition("defaults:")[0].partition("name:")[0].splitlines()[2:]
    text = " ".join(line[2:] for line in comments if not line.startswith("#   "))
    start = _FIGURE.search(text)
    figure = text[start.start() :] if start else ""
    what = re.split(r"(?<=[.?!]) (?=[A-Z]|\w+[._])", text.removesuffix(figure).strip())[0]
    return what, figure


def page(text: str) -> str:
    """``text`` with the table put in the place of the one that is there."""
    before, _, rest = text.partition(_HEAD)
    return before + table() + re.sub(r"\A(?:\|.*\n)*", "", rest)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
