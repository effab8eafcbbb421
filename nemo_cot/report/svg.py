"""Charts as inline SVG: no script, sharp on paper, readable by a screen reader. Only labels need escaping,
the rest is numbers.

Colours and dashes are classes (s0 to s5) that the page's style sheet sets for light, dark and print; a series
is told apart by both. Legends are HTML, so that they wrap on a phone and do not shrink with the chart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from nemo_cot.report.results import Bar, Histogram, MeasureRow
from nemo_cot.report.tables import number

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 230, 52, 40, 10, 12
SERIES = 6
_LIGHT = ("#0072b2", "#c14f00", "#00795a", "#a3528a", "#6b5800", "#444c56")
_DASHES = ("none", "7 4", "2 3", "9 3 2 3", "4 2", "12 5")
STANDALONE = (
    "text{font:13px system-ui,sans-serif;fill:#57606a}.axis,.grid{fill:none;stroke:#d5d9de}.band{opacity:.13}"
    ".line{fill:none;stroke-width:2.2}"
    + "".join(
        f".s{i}.line{{stroke:{colour};stroke-dasharray:{dash}}}.s{i}.band,.s{i}.mark,.s{i}.mean,text.s{i}{{fill:{colour}}}"
        for i, (colour, dash) in enumerate(zip(_LIGHT, _DASHES))
    )
)
"""The styles of a drawing outside of the page, in light colours."""


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str, marks: bool = True
) -> Markup:
    """A curve through the points (x, y) of each series, the y axis from 0. Empty without points."""
    series = {name: points for name, points in series.items() if points}
    if not series:
        return Markup("")
    everything = [point for points in series.values() for point in points]
    top = _nice(max(y for _, y in everything))
    first, last = min(x for x, _ in everything), max(x for x, _ in everything)
    span = (last - first) or 1.0
    body = "".join(
        _polyline([((x - first) / span, y / top) for x, y in points], i)
        + (
            _marks(
                [(x, (x - first) / span, y / top, f"{name}, {x_label} {x:g}: {y:.4g}") for x, y in points], i
            )
            if marks
            else ""
        )
        for i, (name, points) in enumerate(series.items())
    )
    y_ticks = "".join(_y_tick(i / 4, _short(top * i / 4)) for i in range(5))
    return _figure(body + _x_ticks(first, last) + y_ticks, list(series), x_label, y_label)


def curve_chart(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = True,
    what: str = "k =",
) -> Markup:
    """Shares over x > 0, each curve of (x, value, low, high) with its interval shaded. Empty without curves."""
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return Markup("")
    sizes = sorted({x for points in curves.values() for x, *_ in points})
    scale = math.log if logarithmic else float
    first, span = scale(sizes[0]), (scale(sizes[-1]) - scale(sizes[0])) or 1.0
    top = _nice(max(high for points in curves.values() for *_, high in points))
    body = ""
    for i, (name, points) in enumerate(curves.items()):
        places = [(scale(x) - first) / span for x, *_ in points]
        low, high = ([(at, point[c] / top) for at, point in zip(places, points)] for c in (2, 3))
        titles = [f"{name}, {what} {x:g}: {v:.1%} [{lo:.1%}, {hi:.1%}]" for x, v, lo, hi in points]
        middle = [(at, v / top) for at, (_, v, _, _) in zip(places, points)]
        body += f'<polygon class="s{i % SERIES} band" points="{_path(low + high[::-1])}"/>' + _polyline(
            middle, i
        )
        body += _marks([(x, at, y, title) for (x, *_), (at, y), title in zip(points, middle, titles)], i)
    shown = sizes if len(sizes) <= 8 else sizes[:: math.ceil(len(sizes) / 8)]
    ticks = "".join(_x_tick((scale(x) - first) / span, x) for x in shown)
    return _figure(body + ticks + _percents(top), list(curves), x_label, y_label)


def histogram(found: Histogram | None, *, order: Sequence[str] = (), bare: bool = False) -> Markup:
    """Shares of each group over common bins, as outlines; the mean of each is a mark on the axis. ``order``:
    of the series, where several charts have one legend; ``bare``: the drawing alone.
    """
    if found is None:
        return Markup("")
    low, high = found.edges[0], found.edges[-1]
    span = (high - low) or 1.0
    top = _nice(max(max(shares) for shares in found.shares.values()))
    body = ""
    names = list(order) or list(found.shares)
    for name, shares in found.shares.items():
        i = names.index(name)
        corners = [(0.0, 0.0)]
        for left, right, share in zip(found.edges, found.edges[1:], shares):
            corners += [((left - low) / span, share / top), ((right - low) / span, share / top)]
        corners.append((1.0, 0.0))
        body += f'<polygon class="s{i % SERIES} band" points="{_path(corners)}"/>' + _polyline(corners, i)
        at, mean = min(1.0, max(0.0, (found.means[name] - low) / span)), found.means[name]
        body += (
            f'<path class="s{i % SERIES} mean" d="M{_x(at):.1f},{_y(0):.1f}l-5,9h10z">'
            f"<title>{escape(name)}: mean {mean:.4g}</title></path>"
        )
    label = f"{found.name.replace('_', ' ')}{f', {found.unit}' if found.unit and found.unit not in found.name else ''}"
    ticks = _x_ticks(low, high) + _percents(top)
    return _figure(body + ticks, list(found.shares), label, "share", bare=bare)


def forest(bars: Sequence[Bar], *, x_label: str = "pass@1") -> Markup:
    """A row per bar: its name and figures, its value as a dot, its interval as a line. The axis begins at 0."""
    if not bars:
        return Markup("")
    lows, highs = (
        [b.value if b.low is None else b.low for b in bars],
        [b.value if b.high is None else b.high for b in bars],
    )
    top, least = _nice(max([*highs, 0.01])), min([*lows, 0.0])
    bottom = -_nice(-least) if least < 0 else 0.0
    left, right, row = 14, WIDTH - 14, 42
    height = row * len(bars) + 48

    def x(value: float) -> str:
        return f"{left + (value - bottom) / (top - bottom) * (right - left):.1f}"

    body = "".join(
        f'<path class="grid" d="M{x(v)},6V{height - 42}"/>'
        f'<text x="{x(v)}" y="{height - 26}" text-anchor="{"start" if i == 0 else "end" if i == 4 else "middle"}">{100 * v:.3g} %</text>'
        for i, v in enumerate(bottom + (top - bottom) * i / 4 for i in range(5))
    )
    for i, bar in enumerate(bars):
        y, kind = row * i + 30, "ours" if bar.ours else "theirs"
        figures = f"{100 * bar.value:.1f} %" + (
            "" if bar.low is None else f" [{100 * bar.low:.1f}, {100 * bar.high:.1f}]"
        )
        body += f'<text class="name" x="{left}" y="{y - 10}">{escape(_cut(bar.label, 40))}</text>'
        body += f'<text class="value" x="{right}" y="{y - 10}" text-anchor="end">{figures}</text>'
        if bar.low is not None and bar.high is not None:
            body += f'<path class="interval {kind}" d="M{x(bar.low)},{y}H{x(bar.high)}M{x(bar.low)},{y - 5}v10M{x(bar.high)},{y - 5}v10"/>'
        dot = f'<circle class="dot {kind}" cx="{x(bar.value)}" cy="{y}" r="6">' if bar.ours else (
            f'<path class="dot {kind}" d="M{x(bar.value)},{y - 7}l7,7l-7,7l-7,-7z">'
        )  # fmt: skip
        body += f"{dot}<title>{escape(bar.label)}: {figures}</title></{'circle' if bar.ours else 'path'}>"
    body += f'<text x="{WIDTH / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>'
    return Markup(
        f'<figure class="chart">{_svg(body, height, f"{x_label} of {len(bars)} rows with intervals")}</figure>'
    )


def measure(row: MeasureRow) -> Markup:
    """A small forest plot: the mean of one measure of each set of traces, with its interval."""
    shown = {name: f for name, f in row.sets.items() if f.value is not None}
    ends = [end for f in shown.values() for end in (f.value, f.low, f.high) if end is not None]
    least, most = min(ends), max(ends)
    least, most = (least, most) if most > least else (least - 0.5, most + 0.5)
    left, right, slot = 12, 268, 34
    height = slot * len(shown) + 34

    def x(value: float) -> str:
        return f"{left + (value - least) / (most - least) * (right - left):.1f}"

    title = row.name.replace("_", " ") + (f", {row.unit}" if row.unit != row.name else "")
    body = f'<text class="name" x="0" y="14">{escape(title)}</text>'
    for i, (name, figure) in enumerate(shown.items()):
        y, kind = slot * i + 50, f"s{i % SERIES}"
        figures = number(figure.value) + (
            "" if figure.low is None else f" [{number(figure.low)}, {number(figure.high)}]"
        )
        body += f'<text x="{left}" y="{y - 9}">{escape(_cut(name, 16))}</text>'
        body += f'<text class="value" x="{right}" y="{y - 9}" text-anchor="end">{figures}</text>'
        if figure.low is not None:
            body += f'<path class="{kind} span" d="M{x(figure.low)},{y}H{x(figure.high)}"/>'
        body += f'<circle class="{kind} mark" cx="{x(figure.value)}" cy="{y}" r="4"/>'
    about = f"{title}: " + ", ".join(f"{name} {number(figure.value)}" for name, figure in shown.items())
    return Markup(f'<figure class="chart tiny">{_svg(body, height, about, 280)}</figure>')


def problem_map(rows: Sequence[tuple[str, float, str]], *, label: str) -> Markup:
    """A bar per problem, up for a gain and down for a loss, each a link: (title, change from -1 to 1,
    address).
    """
    if not rows:
        return Markup("")
    height, middle = 200, 100
    slot = (WIDTH - LEFT - RIGHT) / len(rows)
    scale = 84
    body = "".join(
        f'<path class="grid" d="M{LEFT},{middle - y * scale}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{middle - y * scale + 4}" text-anchor="end">{100 * y:+.0f}</text>'
        for y in (-1, -0.5, 0, 0.5, 1)
    )
    for i, (title, change, address) in enumerate(rows):
        size = max(2.0, abs(change) * scale)
        kind = "gain" if change > 0 else "loss" if change < 0 else "same"
        top = middle - size if change > 0 else middle if change < 0 else middle - 1
        body += (
            f'<a href="{escape(address)}" tabindex="-1"><rect class="{kind}" x="{LEFT + i * slot:.2f}" y="{top:.1f}" '
            f'width="{max(0.6, slot * 0.86):.2f}" height="{size:.1f}"><title>{escape(title)}</title></rect></a>'
        )
    return Markup(f'<figure class="chart map">{_svg(body, height, label)}</figure>')


def _polyline(points: Sequence[tuple[float, float]], number: int) -> str:
    return f'<polyline class="s{number % SERIES} line" points="{_path(points)}"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)


def _marks(points: Sequence[tuple[float, float, float, str]], number: int) -> str:
    """A dot per point, titled with its figures; none where they would run into each other."""
    if len(points) > 80:
        return ""
    return "".join(
        f'<circle class="s{number % SERIES} mark" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="3"><title>{escape(title)}</title></circle>'
        for _, x, y, title in points
    )


def _figure(body: str, names: Sequence[str], x_label: str, y_label: str, *, bare: bool = False) -> Markup:
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    axes = f'<path class="axis" d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    labels = f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>'
    about = f"{y_label} over {x_label}" + (f": {', '.join(names)}" if names else "")
    caption = f"<figcaption><span>{escape(y_label)}</span>{legend(names)}</figcaption>" if names else ""
    drawing = _svg(axes + body + labels, HEIGHT, about)
    if bare:
        return Markup(drawing)
    return Markup(f'<figure class="chart">{caption}{drawing}</figure>')


def legend(names: Sequence[str]) -> Markup:
    """A dash and a name per series; nothing for a single one."""
    items = "".join(
        f'<li><svg viewBox="0 0 26 10" aria-hidden="true"><path class="s{i % SERIES} line" d="M0,5H26"/></svg>{escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return Markup(f'<ul class="legend">{items}</ul>') if len(names) > 1 else Markup("")


def _svg(body: str, height: float, about: str, width: float = WIDTH) -> str:
    role = "group" if "<a " in body else "img"
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="{role}" aria-label="{escape(about)}">{body}</svg>'


def _x_ticks(first: float, last: float) -> str:
    """Labels at about equal distances; whole numbers if the axis is long enough, or begins and ends with one."""
    values = [first + (last - first) * i / 4 for i in range(5)]
    if last - first >= 8:
        values = [float(round(value)) for value in values]
    elif last > first + 1 and first == round(first) and last == round(last):
        values = [float(value) for value in range(round(first), round(last) + 1)]
    span = (last - first) or 1.0
    return "".join(_x_tick((value - first) / span, value) for value in values)


def _x_tick(place: float, value: float) -> str:
    anchor = "end" if place > 0.97 else "middle"
    return f'<text x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="{anchor}">{value:.4g}</text>'


def _short(value: float) -> str:
    """At most six characters: 7.5e-5 in place of 7.5e-05."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def _percents(top: float) -> str:
    return "".join(_y_tick(i / 4, f"{100 * top * i / 4:.3g} %") for i in range(5))


def _y_tick(place: float, text: str) -> str:
    grid = f'<path class="grid" d="M{LEFT},{_y(place):.1f}H{WIDTH - RIGHT}"/>' if place else ""
    return f'{grid}<text x="{LEFT - 6}" y="{_y(place) + 4:.1f}" text-anchor="end">{text}</text>'


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))
