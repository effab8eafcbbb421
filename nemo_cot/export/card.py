"""Cards: README.md with what the manifests say. All that comes from configs, models and traces is untrusted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nemo_cot import __version__
from nemo_cot.io.atomic import write_text
from nemo_cot.report.tables import percent
from nemo_cot.report.untrusted import fenced, markdown_cell, plain
from nemo_cot.stages.manifest import Artifact, Manifest

TEMPLATES = Path(__file__).parent / "templates"
_NOT_CITED = ("evaluate", "report")


def write_card(folder: Path, template: str, manifests: Mapping[str, Manifest], **values: Any) -> None:
    """Write ``folder``/README.md out of ``template``.md.j2, which has ``manifests`` and ``values``."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # no escape of HTML: every value goes through a filter
    environment.filters |= {
        "cell": markdown_cell,
        "fenced": fenced,
        "percent": percent,
        "yaml_text": json.dumps,
    }
    context = {
        "manifests": manifests,
        "version": __version__,
        "origin": origin,
        "config_yaml": config_yaml(manifests),
    }
    text = environment.get_template(f"{template}.md.j2").render(**context, **values)
    write_text(folder / "README.md", plain(text))


def origin(artifact: Artifact) -> str:
    """Where an input came from: its place in the run; of a path of this machine the name alone."""
    return _shared(artifact.path)


def config_yaml(manifests: Mapping[str, Manifest]) -> str:
    """The config of every stage that made something, as its manifest holds it; of paths the name alone."""
    tree = {
        name: _shared(m.config) for name, m in manifests.items() if name.partition("/")[0] not in _NOT_CITED
    }
    return msgspec.yaml.encode(tree).decode() if tree else ""


def _shared(value: Any) -> Any:
    """``value`` with the name in the place of each absolute path, which would only show others this machine."""
    if isinstance(value, dict):
        return {key: _shared(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shared(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and re.fullmatch(r"[/~][^\n]*", value) else value
