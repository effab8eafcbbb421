"""The structure of sets of traces as charts: a histogram per measure, in one SVG or a page of HTML without
scripts.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from nemo_cot.report.facts import histogram as shares
from nemo_cot.report.svg import HEIGHT, STANDALONE, WIDTH, histogram, legend
from nemo_cot.traces.structure.profile import Figure, Measured, Structure, by_measure

_STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2em auto;max-width:70em;color:#111;background:#fff}"
    "table{border-collapse:collapse;font-size:90%}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ccc}"
    "section{display:inline-block;width:34em;max-width:100%;margin:0 1em 1em 0;vertical-align:top}h2{font-size:100%}"
    ".legend{list-style:none;padding:0}.legend li{display:inline-block;margin-right:1em}.legend svg{width:26px;height:10px}"
    + STANDALONE
)


def structure_svg(found: Structure, sets: Mapping[str, Measured]) -> str:
    """All histograms below each other, below the names of the sets."""
    charts, top = _charts(found, sets), 18 * len(sets) + 8
    body = Markup("").join(
        Markup('<text class="s{}" x="8" y="{}">{}</text>').format(i % 6, 18 * (i + 1), name)
        for i, name in enumerate(sets)
    )
    body += Markup("").join(
        Markup('<svg y="{}" width="{}" height="{}">{}</svg>').format(
            top + number * (HEIGHT + 12), WIDTH, HEIGHT, chart
        )
        for number, chart in enumerate(charts.values())
    )
    height = top + max(1, len(charts)) * (HEIGHT + 12)
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" viewBox="0 0 {} {}"><style>{}</style>'
    )
    back = Markup('<rect width="100%" height="100%" fill="#fff"/>')
    return str(
        head.format(WIDTH, height, WIDTH, height, Markup(STANDALONE)) + back + body + Markup("</svg>\n")
    )


def structure_html(found: Structure, sets: Mapping[str, Measured]) -> str:
    """The table of means, and the histograms."""
    cell, head = Markup("<td>{}</td>"), Markup("<th>{}</th>")
    names = Markup("").join(head.format(name) for name in ("measure", "unit", *found.sets))
    rows = Markup("").join(
        Markup("<tr>{}</tr>\n").format(
            Markup("").join(
                cell.format(text)
                for text in (name, unit, *(_shown(p.measures[name]) for p in found.sets.values()))
            )
        )
        for name, unit in found.units.items()
    )
    charts = Markup("").join(
        Markup("<section><h2>{}</h2>{}</section>\n").format(name, chart)
        for name, chart in _charts(found, sets).items()
    )
    page = Markup(
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Structure of traces</title><style>{}</style>\n'
        "<h1>Structure of traces</h1>\n<p>Means over problems, with {} intervals (bootstrap over problems). Marks: {}.</p>\n"
        "<table><tr>{}</tr>\n{}</table>\n{}{}</html>\n"
    )
    return str(
        page.format(
            Markup(_STYLE),
            f"{found.confidence:.0%}",
            ", ".join(found.marks) or "none",
            names,
            rows,
            legend(list(sets)),
            charts,
        )
    )


def _charts(found: Structure, sets: Mapping[str, Measured]) -> dict[str, Markup]:
    """Per measure that is defined somewhere."""
    made = ((name, shares(name, found.units[name], by_set)) for name, by_set in by_measure(sets))
    return {name: histogram(one, order=list(sets), bare=True) for name, one in made if one is not None}


def _shown(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"
