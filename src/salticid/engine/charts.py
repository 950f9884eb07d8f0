"""Line charts as SVG text: no dependency, and no script needed to read them.

Colours come from the page (CSS classes `s0` … `s5`, `text`, `grid`, `mark`), so that a chart follows its colour
scheme. A line carries its steps and values (`data-x`, `data-y`) for a page that shows them under the pointer.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from salticid.engine.figures import number, printable

POINTS = 800
"""Points that a line has at most; more would not be seen."""
TINY = 1e-100
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 10, 26

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line. Points whose value is not finite are left out."""

    name: str
    x: Sequence[float]
    """Ascending."""
    y: Sequence[float]
    noisy: bool = False
    """Draw the values faintly, and their running mean over them."""
    colour: int | None = None
    """0 … 5; None: by its place among the series."""
    dashed: bool = False


@dataclass(frozen=True)
class Scale:
    """Maps the values low … high onto the pixels start … end, linearly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, -1.0), 2.0) * (self.end - self.start)


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    width: int = 460,
    height: int = 220,
    log: bool | None = None,
    marks: Sequence[float] = (),
    unit: str = "",
) -> str:
    """Draw series over common axes; the first six differ in colour.

    Args:
        series: what to draw.
        label: what the chart shows, for readers who cannot see it.
        width, height: size in CSS pixels at which the text has its natural size.
        log: logarithmic y axis; None: where all values are positive and span more than a factor of 100.
        marks: places on the x axis to mark by vertical lines.
        unit: what to write behind values of y.

    Returns:
        An `<svg>` element, well-formed XML; one that says "no data" where nothing is finite.
    """
    shown = [(s, style(s, i), points) for i, s in enumerate(series) if (points := finite(s))]
    size = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(printable(label))}"'
    if not shown:
        middle = f'x="{width / 2}" y="{height / 2}" text-anchor="middle"'
        return f'<svg class="chart" {size}><text class="text" {middle}>no data</text></svg>'
    values = [y for _, _, points in shown for _, y in points]
    if log is None:
        log = min(values) > 0 and max(values) / min(values) > 100
    steps = [x for _, _, points in shown for x in (points[0][0], points[-1][0])]
    across = Scale(*widened(min(steps), max(steps)), LEFT, width - RIGHT)
    up = Scale(*covered([(points, s.noisy) for s, _, points in shown], log), height - BOTTOM, TOP, log)
    parts = [*_axes(across, up, unit), *_marks(marks, across, up)]
    for line, classes, points in shown:
        parts += _line(line, classes, points, across, up, unit)
    return f'<svg class="chart" {size}>{"".join(parts)}</svg>'


def style(series: Series, place: int) -> str:
    """CSS classes of a series, for its line and for a legend."""
    colour = place if series.colour is None else series.colour
    return f"s{colour % 6}" + (" dashed" if series.dashed else "")


def finite(series: Series) -> Points:
    """The points of a series whose value is a finite number, of a size that can be reckoned with."""
    points = zip(series.x, series.y, strict=True)
    return [(x, y if abs(y) > TINY else 0.0) for x, y in points if abs(y) < 1 / TINY]


def running_mean(points: Points) -> Points:
    """The mean around every point, over 4 % of the points; at a steep start, over as many as there are on its left;
    at the end, where none are on the right, over those on its left."""
    points = thinned(points, 2 * POINTS)
    half = max(len(points) // 50, min(len(points) // 4, 3))
    result = []
    for i, (x, _) in enumerate(points):
        run = points[max(i - half, 0) : i + min(half, i) + 1]
        result.append((x, sum(y for _, y in run) / len(run)))
    return result


def thinned(points: Points, most: int = POINTS) -> Points:
    """At most so many points: the means of equal runs of points; the last point stays."""
    if len(points) <= most:
        return points
    runs = list(_runs(points, most - 1))
    means = [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
    return [*means, points[-1]]


def extremes(points: Points, most: int = POINTS) -> Points:
    """At most so many points: the lowest and the highest of equal runs of points, in their order."""
    if len(points) <= most:
        return points
    ends = ((min(run, key=lambda p: p[1]), max(run, key=lambda p: p[1])) for run in _runs(points, most // 2))
    return [point for pair in ends for point in sorted(pair)]


def covered(lines: Sequence[tuple[Points, bool]], log: bool) -> tuple[float, float]:
    """What the y axis shows: everything, except the outermost per cent at either end of a noisy line."""
    low, high = math.inf, -math.inf
    for points, noisy in lines:
        ordered = sorted(y for _, y in points)
        if noisy:
            skip = len(ordered) // 100
            ordered = ordered[skip : len(ordered) - skip] + [y for _, y in running_mean(points)]
        low, high = min(low, min(ordered)), max(high, max(ordered))
    if log:
        room = max((high / low) ** 0.05, 1.05)
        return low / room, high * room
    low, high = widened(low, high)
    room = (high - low) * 0.06
    return (0.0 if 0 <= low <= 3 * room else low - room), high + room


def widened(low: float, high: float) -> tuple[float, float]:
    """The range itself, or some room around a single value."""
    room = 0.0 if high > low else abs(low) * 0.05 or 1.0
    return low - room, high + room


def ticks(low: float, high: float, about: int, finest: float = 0.0) -> list[tuple[float, str]]:
    """About so many round numbers within a range, `finest` apart at least, and how to write them."""
    raw = max((high - low) / about, finest)
    power = 10.0 ** math.floor(math.log10(0.75 * raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= max(0.75 * raw, finest))
    values = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    largest = max(abs(low), abs(high))
    if largest < 0.01:
        return [(v, f"{v:.1e}".replace(".0e", "e").replace("e-0", "e-") if v else "0") for v in values]
    shift, suffix = next((s for s in ((1e6, "M"), (1e3, "k")) if largest >= 10 * s[0]), (1.0, ""))
    digits = next(d for d in range(20) if math.isclose(round(step / shift, d), step / shift, rel_tol=1e-6))
    return [(v, f"{v / shift:.{digits}f}{suffix}" if v else "0") for v in values]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten within a range, thinned where they are many, with 2 and 5 between where they are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    between = (1, 2, 5) if len(decades) <= 4 else (1,)
    every = math.ceil(len(decades) / 7)
    values = [m * 10.0**d for d in decades[::every] for m in between]
    return [(v, _short(v)) for v in values if low <= v <= high]


def _short(value: float) -> str:
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _runs(points: Points, count: int) -> Iterator[Points]:
    edges = [len(points) * i // count for i in range(count + 1)]
    return (points[a:b] for a, b in pairwise(edges) if b > a)


def _axes(across: Scale, up: Scale, unit: str) -> Iterator[str]:
    for value, text in log_ticks(up.low, up.high) if up.log else ticks(up.low, up.high, 5):
        y = up(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{across.end}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="text" x="{LEFT - 8}" y="{y + 3.5:.1f}" text-anchor="end">{text}{escape(unit)}</text>'
    for value, text in ticks(across.low, across.high, max(3, int((across.end - LEFT) / 90)), finest=1):
        yield f'<text class="text" x="{across(value):.1f}" y="{up.start + 18}" text-anchor="middle">{text}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{across.end}" y1="{up.start}" y2="{up.start}"/>'


def _marks(marks: Sequence[float], across: Scale, up: Scale) -> Iterator[str]:
    for x in (across(mark) for mark in marks if across.low <= mark <= across.high):
        yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{up.end}" y2="{up.start}"/>'


def _line(series: Series, classes: str, points: Points, across: Scale, up: Scale, unit: str) -> Iterator[str]:
    if series.noisy:
        yield f'<path class="raw {classes}" d="{_path(extremes(points), across, up)}"/>'
        points = running_mean(points)
    points = thinned(points)
    steps = " ".join(f"{x:.0f}" for x, _ in points)
    values = escape("|".join(number(y) + unit for _, y in points))
    data = f'data-name="{escape(printable(series.name))}" data-x="{steps}" data-y="{values}"'
    yield f'<path class="line {classes}" d="{_path(points, across, up)}" {data}/>'
    if not series.noisy and len(points) <= 40:
        for x, y in points:
            yield f'<circle class="dot {classes}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.5"/>'


def _path(points: Points, across: Scale, up: Scale) -> str:
    return "M" + "L".join(f"{across(x):.1f} {min(max(up(y), up.end), up.start):.1f}" for x, y in points)
