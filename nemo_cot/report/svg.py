"""Small charts as inline SVG: no script, nothing fetched. Only labels need escaping, the rest is numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 240, 56, 36, 16, 12
COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")


def line_chart(points: Sequence[tuple[float, float]], *, x_label: str, y_label: str) -> Markup:
    """A curve through ``points`` (x, y), the y axis from 0."""
    if not points:
        return Markup("")
    top = _nice(max(y for _, y in points))
    first, last = points[0][0], points[-1][0]
    span = (last - first) or 1.0
    path = " ".join(f"{_x((x - first) / span):.1f},{_y(y / top):.1f}" for x, y in points)
    marks = "".join(
        f'<circle cx="{_x((x - first) / span):.1f}" cy="{_y(y / top):.1f}" r="2.5" fill="{COLOURS[0]}">'
        f"<title>{escape(x_label)} {x:g}: {y:.4g}</title></circle>"
        for x, y in points
    )
    body = f'<polyline fill="none" stroke="{COLOURS[0]}" stroke-width="2" points="{path}"/>{marks}'
    return _frame(body + _x_ticks(first, last) + _y_ticks(top), x_label, y_label)


def curve_chart(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]], *, x_label: str, y_label: str
) -> Markup:
    """Shares over x > 0 on a logarithmic axis, each curve of (x, value, low, high) with its interval shaded.

    All curves have the same x. Empty without curves.
    """
    if not curves:
        return Markup("")
    sizes = [x for x, *_ in next(iter(curves.values()))]
    span = math.log(sizes[-1] / sizes[0]) or 1.0
    places = [math.log(x / sizes[0]) / span for x in sizes]
    top = _nice(max(high for points in curves.values() for *_, high in points))
    body = "".join(
        _curve(name, points, places, top, COLOURS[i % len(COLOURS)], dashed=i >= len(COLOURS))
        for i, (name, points) in enumerate(curves.items())
    )
    ticks = "".join(_x_tick(place, x) for place, x in zip(places, sizes))
    return _frame(body + _legend(list(curves), LEFT + 12) + ticks + _y_ticks(top), x_label, y_label)


def _curve(
    name: str,
    points: Sequence[tuple[float, float, float, float]],
    places: Sequence[float],
    top: float,
    colour: str,
    *,
    dashed: bool,
) -> str:
    """The band of the interval, the line, and one mark per point, titled with its figures."""

    def path(column: int) -> list[str]:
        return [f"{_x(place):.1f},{_y(point[column] / top):.1f}" for place, point in zip(places, points)]

    dash = ' stroke-dasharray="5 4"' if dashed else ""
    marks = "".join(
        f'<circle cx="{_x(place):.1f}" cy="{_y(value / top):.1f}" r="2.5" fill="{colour}">'
        f"<title>{escape(name)}, k = {x:g}: {value:.1%} [{low:.1%}, {high:.1%}]</title></circle>"
        for place, (x, value, low, high) in zip(places, points)
    )
    return (
        f'<polygon fill="{colour}" opacity="0.12" points="{" ".join(path(2) + path(3)[::-1])}"/>'
        f'<polyline fill="none" stroke="{colour}" stroke-width="2"{dash} points="{" ".join(path(1))}"/>{marks}'
    )


def histogram(
    groups: Mapping[str, Sequence[float]], *, x_label: str, bins: int = 20, whole: bool = True
) -> Markup:
    """Shares of each group over common bins, side by side; ``whole``: the values are whole numbers."""
    values = [v for group in groups.values() for v in group]
    if not values:
        return Markup("")
    low, high = min(values), max(values) + 1 if whole else max(values)
    high = high if high > low else low + 1
    width, digits = (high - low) / bins, "0f" if whole else "4g"
    shares = {name: _shares(group, low, width, bins) for name, group in groups.items() if group}
    top = _nice(max(max(s) for s in shares.values()))
    slot = 1 / bins
    bars = "".join(
        _bar(
            (b + 0.1 + 0.8 * i / len(shares)) * slot,
            0.8 * slot / len(shares),
            share / top,
            COLOURS[i % len(COLOURS)],
            f"{name}: {share:.0%} of {low + b * width:.{digits}} to {low + (b + 1) * width:.{digits}}",
        )
        for i, (name, row) in enumerate(shares.items())
        for b, share in enumerate(row)
        if share
    )
    return _frame(
        bars + _legend(list(shares), WIDTH - 150) + _x_ticks(low, high) + _y_ticks(top), x_label, "share"
    )


def _legend(names: Sequence[str], x: float) -> str:
    """A square and a name per colour, below each other."""
    return "".join(
        f'<rect x="{x}" y="{TOP + 16 * i}" width="10" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>'
        f'<text x="{x + 16}" y="{TOP + 9 + 16 * i}">{escape(name)}</text>'
        for i, name in enumerate(names)
    )


def _shares(group: Sequence[float], low: float, width: float, bins: int) -> list[float]:
    counts = [0] * bins
    for value in group:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [count / len(group) for count in counts]


def _bar(x: float, width: float, height: float, colour: str, title: str) -> str:
    return (
        f'<rect x="{_x(x):.1f}" y="{_y(height):.1f}" width="{max(1.0, width * (WIDTH - LEFT - RIGHT)):.1f}" '
        f'height="{_y(0) - _y(height):.1f}" fill="{colour}"><title>{escape(title)}</title></rect>'
    )


def _frame(body: str, x_label: str, y_label: str) -> Markup:
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over {escape(x_label)}" '
        'xmlns="http://www.w3.org/2000/svg" font-size="11" font-family="system-ui, sans-serif" fill="currentColor">'
        f'<path d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="currentColor" opacity="0.5"/>{body}'
        f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="12" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 12 {HEIGHT / 2})">{escape(y_label)}</text></svg>'
    )


def _x_ticks(first: float, last: float) -> str:
    """Five labels; whole numbers if the axis is long enough."""
    values = [first + (last - first) * i / 4 for i in range(5)]
    if last - first >= 8:
        values = [float(round(value)) for value in values]
    span = (last - first) or 1.0
    return "".join(_x_tick((value - first) / span, value) for value in values)


def _x_tick(place: float, value: float) -> str:
    return f'<text x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{value:.4g}</text>'


def _y_ticks(top: float) -> str:
    return "".join(
        f'<text x="{LEFT - 6}" y="{_y(i / 4) + 4:.1f}" text-anchor="end">{top * i / 4:.3g}</text>'
        for i in range(5)
    )


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)
