"""The page: one HTML file that fetches nothing. Every figure in it comes from the results, every text is
escaped.

The Content-Security-Policy allows this file's own scripts and styles by their hashes, and nothing else: no
network, no images, no forms, no inline handlers or styles, and no markup made from text (Trusted Types).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nemo_cot.io.atomic import atomic_writer
from nemo_cot.report.run_results import code_of, configs, shared
from nemo_cot.report.tables import figure, percent, points
from nemo_cot.report.texts import Texts
from nemo_cot.report.untrusted import fenced, markdown_cell, plain

HERE = Path(__file__).parent
_SCRIPTS = ("base.js", "reader.js", "pane.js", "viewer.js")
_LIBRARY, _LIBRARY_STYLE = "temml-0.13.5.min.js", "temml-0.13.5.css"


@cache
def environment(*, html: bool) -> Environment:
    """The templates of reports, with their filters."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": percent, "points": points, "cell": markdown_cell, "fenced": fenced, "figure": figure,
        "address": lambda place: address(*place),
    }  # fmt: skip
    made.globals |= {"shared": shared, "code_of": code_of, "configs": configs}
    return made


def address(*place: object) -> str:
    """The link to a sample, or to two: set, problem, sample, and again."""
    return "#traces/" + "/".join(quote(str(part), safe="") for part in place)


def write_page(
    path: Path, template: str, context: dict[str, Any], texts: Texts, tabs: Sequence[str]
) -> None:
    """Write the page with these ``tabs``, chunk by chunk."""
    style = _part("page/style.css") + _part(f"vendor/{_LIBRARY_STYLE}")
    script = "".join(_part(f"page/{name}") for name in _SCRIPTS)
    library = _part(f"vendor/{_LIBRARY}")
    has_texts = texts.samples > 0
    whole = {
        **context,
        "policy": Markup(_policy(style, [script, *([library] if has_texts else [])])),
        "style": Markup(style),
        "script": Markup(script),
        "library": Markup(library),
        "index": texts.index if has_texts else "",
        "chunks": texts.chunks,
        "rule": texts.rule,
        "tabs": [(name, name.capitalize()) for name in tabs],
    }
    own = {style, script, library, texts.index, *texts.chunks}
    pieces: Iterator[str] = environment(html=True).get_template(template).generate(whole)
    with atomic_writer(path) as handle:
        for piece in pieces:
            handle.write(piece if piece in own else plain(piece))


def _policy(style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'sha256-{_digest(style)}'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _part(name: str) -> str:
    """A file of this package, as it stands in the page. Raises ValueError if it would end its own element."""
    text = plain((HERE / name).read_text())
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise ValueError(f"{name} cannot stand inside an element")
    return text
