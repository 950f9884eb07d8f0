import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salticid.engine.charts import (
    POINTS,
    Scale,
    Series,
    extremes,
    finite,
    line_chart,
    log_ticks,
    running_mean,
    thinned,
    ticks,
)

values = st.one_of(st.floats(), st.floats(-1e3, 1e3), st.floats(1e-6, 1e-3), st.just(0.0))


def pairs(path):
    return [tuple(map(float, point.split())) for point in path.attrib["d"][1:].split("L")]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(), st.lists(values, max_size=60), st.booleans()), max_size=8),
    st.sampled_from([None, False]),
)
def test_charts_are_well_formed_and_stay_inside(lines, log):
    series = [Series(name, range(1, len(y) + 1), y, noisy) for name, y, noisy in lines]
    svg = ElementTree.fromstring(line_chart(series, label='a <b> & "c" \' \x00', log=log, marks=[3]))
    assert svg.tag == "svg"
    assert "nan" not in re.sub(r'data-\w+="[^"]*"|aria-label="[^"]*"', "", ElementTree.tostring(svg, "unicode"))
    for path in svg.findall("path"):
        for x, y in pairs(path):
            assert 49 <= x <= 447
            assert 9.9 <= y <= 194.1
    shown = [s for s in series if any(math.isfinite(y) for y in s.y)]
    assert len(svg.findall("path[@data-name]")) <= len(shown)
    assert bool(svg.findall("path")) or "no data" in "".join(svg.itertext())


def test_points_stand_where_they_should():
    svg = ElementTree.fromstring(
        line_chart([Series("a", [0, 5, 10], [0.0, 10.0, 5.0])], label="", width=264, height=136)
    )
    first, top, last = pairs(svg.findall("path")[0])
    assert (first[0], top[0], last[0]) == (50, 150, 250)  # margins of 50 and 14 leave 200 for ten steps
    assert first[1] > last[1] > top[1]
    assert last[1] == pytest.approx((first[1] + top[1]) / 2, abs=0.11)  # coordinates have one decimal
    assert svg.findall("path")[0].attrib["data-y"] == "0|10.00|5.000"
    assert [c.attrib["class"] for c in svg.findall("circle")] == ["dot s0"] * 3


def test_what_is_not_finite_is_left_out():
    series = Series("a", [1, 2, 3, 4], [1.0, math.nan, math.inf, 4.0])
    assert finite(series) == [(1, 1.0), (4, 4.0)]
    assert "no data" in line_chart([Series("a", [1], [math.nan])], label="")


def test_wide_ranges_are_logarithmic():
    def labels(y, **options):
        svg = ElementTree.fromstring(line_chart([Series("a", range(len(y)), y)], label="", **options))
        return [t.text for t in svg.findall("text") if t.attrib["text-anchor"] == "end"]

    assert labels([0.001, 0.01, 1000.0]) == ["0.01", "1", "100"]
    assert labels([1.0, 50.0]) == ["0", "10", "20", "30", "40", "50"]
    assert labels([1.0, 500.0], log=False)[:2] == ["0", "100"]
    assert labels([-1.0, 500.0])[0] == "0"
    assert labels([0.01, 0.02], unit=" %")[-1] == "0.020 %"


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 10))
def test_ticks_are_round_even_and_inside(low, span, about):
    high = low + span
    if high - low < 1e-9 * max(abs(low), 1.0):
        return
    found = [value for value, _ in ticks(low, high, about)]
    assert 1 <= len(found) <= about / 0.75 + 1
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value in found)
    steps = {f"{b - a:.6e}" for a, b in pairwise(found)} if abs(low) < 1e3 * span else set()
    assert len(steps) <= 1 or max(map(float, steps)) == pytest.approx(min(map(float, steps)), rel=1e-3)


@given(st.floats(1e-6, 1e9), st.floats(1e-3, 1e9), st.integers(3, 8))
def test_tick_texts_say_the_value(low, span, about):
    for value, text in ticks(low, low + span, about):
        factor = {"k": 1e3, "M": 1e6}.get(text[-1], 1.0)
        assert float(text.rstrip("kM")) * factor == pytest.approx(value, rel=0.06, abs=1e-12)


def test_ticks_of_steps_are_whole():
    assert [text for _, text in ticks(1, 3, 4, finest=1)] == ["1", "2", "3"]
    assert [text for _, text in ticks(0, 120_000, 4)] == ["0", "25k", "50k", "75k", "100k"]
    assert [text for _, text in ticks(0, 1e-4, 4)] == ["0", "2e-5", "4e-5", "6e-5", "8e-5", "1e-4"]


def test_log_ticks():
    assert [text for _, text in log_ticks(0.8, 60)] == ["1", "2", "5", "10", "20", "50"]
    assert len(log_ticks(1e-30, 1e30)) <= 10
    assert [text for _, text in log_ticks(1e-5, 1e-2)] == [
        "1e-5",
        "2e-5",
        "5e-5",
        "1e-4",
        "2e-4",
        "5e-4",
        "0.001",
        "0.002",
        "0.005",
        "0.01",
    ]


@pytest.mark.parametrize("log", [False, True])
def test_scales_map_ends_to_ends(log):
    scale = Scale(2.0, 8.0, 100, 200, log)
    assert (scale(2.0), scale(8.0)) == (100, 200)
    assert scale(4.0) == pytest.approx(150 if log else 100 + 100 / 3)


@given(st.integers(1, 5000), st.integers(2, 50))
def test_thinning_keeps_the_mean_and_the_last_point(count, most):
    points = [(float(i), float(i % 7)) for i in range(count)]
    few = thinned(points, most)
    assert len(few) <= most
    assert few[-1] == points[-1]
    assert [x for x, _ in few] == sorted(x for x, _ in few)
    if count <= most:
        assert few == points


def test_spikes_survive_thinning():
    points = [(float(i), 1.0) for i in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    points[77_777] = (77_777.0, -9.0)
    few = extremes(points)
    assert len(few) <= POINTS
    assert {points[54_321], points[77_777]} <= set(few)
    assert few == sorted(few)


def test_the_running_mean_does_not_lag():
    line = [(float(i), 3.0 * i + 1) for i in range(500)]
    mean = running_mean(line)
    assert all(m == pytest.approx(y) for (_, y), (_, m) in zip(line[:-10], mean[:-10], strict=True))
    assert running_mean([(1.0, 5.0)]) == [(1.0, 5.0)]
    assert all(m == pytest.approx(2.0) for _, m in running_mean([(float(i), 2.0) for i in range(100)]))


def test_long_series_stay_small():
    y = [math.sin(i / 1000) for i in range(100_000)]
    assert len(line_chart([Series("a", range(100_000), y, noisy=True)], label="")) < 60_000
