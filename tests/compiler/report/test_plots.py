"""Drawings: what stands where."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_compiler.report import plots, wording
from outrider_compiler.report.labels import Frame, place
from outrider_compiler.report.scales import LogScale
from tests.compiler.report.reports import histograms, ratios, sizes, times_us, words

Json = dict[str, Any]
VERDICTS = ("chosen", "admitted", "refused")


@st.composite
def drawn(draw: st.DrawFn, most: int = 14) -> list[Json]:
    """What a drawing needs of candidates."""
    return [
        {
            "name": name, "verdict": draw(st.sampled_from(VERDICTS)), "latency_ratio": draw(ratios),
            "size_bytes": draw(sizes), "latency_us": draw(times_us), "histogram": draw(histograms()),
        }
        for name in draw(st.lists(words, max_size=most, unique=True))
    ]  # fmt: skip


@given(drawn(), st.sampled_from([plots.WIDE, plots.NARROW]))
def test_no_name_is_over_another(candidates: list[Json], width: int) -> None:
    """CMP-RPT-5: names overlap neither each other nor a point, and all stands inside the frame."""
    plot = plots.pareto(candidates, [item["name"] for item in candidates], width)
    boxes = [mark.label.box for mark in plot.marks if mark.label]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(plot.frame.holds(box) for box in boxes)
    for mark in plot.marks:
        assert plot.frame.left <= mark.x <= plot.frame.right
        assert plot.frame.top <= mark.y <= plot.frame.bottom
        assert not [box for box in boxes if box.left < mark.x < box.right and box.top < mark.y < box.bottom]


@pytest.mark.parametrize("width", [plots.WIDE, plots.NARROW])
def test_nine_candidates_all_have_their_names(width: int) -> None:
    """CMP-RPT-5: as many candidates as a board may have, most of them in one corner, are all named."""
    near = [("int8_static_conv", 0.65 + i / 50, 28_000 + 300 * i) for i in range(7)]
    candidates = [
        {"name": f"{name}{i}", "latency_ratio": x, "size_bytes": y, "latency_us": 1.0, "verdict": "admitted"}
        for i, (name, x, y) in enumerate([("fp32", 1.0, 96_000), ("fp16", 1.16, 48_000), *near])
    ]
    assert all(mark.label for mark in plots.pareto(candidates, [], width).marks)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1))
def test_the_front_is_a_staircase(points: list[tuple[float, float]]) -> None:
    """CMP-RPT-5: the line goes right and down alone, and through every point of a front."""
    front = [p for p in points if not any(o[0] <= p[0] and o[1] <= p[1] and o != p for o in points)]
    corners = plots.staircase(front)
    assert set(front) <= set(corners)
    for (x, y), (after_x, after_y) in itertools.pairwise(corners):
        assert (x == after_x) != (y == after_y)
        assert after_x >= x


@given(st.lists(st.floats(0, 1e308), min_size=1))
def test_an_axis_holds_its_values(values: list[float]) -> None:
    """CMP-RPT-5: every value stands between both ends, larger ones further on, and the axis has 2 to 6 ticks."""
    for scale in (LogScale.around(values, 0, 100), LogScale.between(values, 0, 100)):
        places = [scale.at(value) for value in sorted(values)]
        assert places == sorted(places)
        assert 0 <= places[0] <= places[-1] <= 100
        assert 2 <= len(scale.ticks()) <= 6


@given(drawn(most=4))
def test_histograms_stand_on_one_axis(candidates: list[Json]) -> None:
    """CMP-RPT-5: bars and medians lie within the drawing; every run is in a bar."""
    found = plots.histograms(candidates)
    assert [row.item["name"] for row in found.rows] == [c["name"] for c in candidates if c["histogram"]]
    for row in found.rows:
        assert bool(row.bars) == bool(sum(row.item["histogram"]["counts"]))
        assert 0 <= row.median <= plots.BARS
        for bar in row.bars:
            assert 0 <= bar.x <= plots.BARS
            assert 0 <= bar.y < bar.y + bar.height <= plots.TOP + 1e-6


def test_a_name_goes_where_there_is_room() -> None:
    """CMP-RPT-5: beside its point; further away with a line where another is in the way; left out without any room."""
    frame = Frame(0, 0, 200, 100)
    first, second = place([(100, 50), (100, 50)], ["here", "there"], frame)
    assert first is not None
    assert second is not None
    assert first.beside
    assert place([(10, 10)], ["much too long a name"], Frame(0, 0, 50, 20)) == [None]


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (wording.size(999), "999 B"),
        (wording.size(28_968), "29.0 kB"),
        (wording.size(3_200_000_000), "3.20 GB"),
        (wording.time_us(0.25), "0.25 µs"),
        (wording.time_us(1_500_000), "1.50 s"),
        (wording.ratio(1e-7), "1e−07×"),
        (wording.decibels(200.0), "exact"),
        (wording.decibels(-3.25), "−3.2 dB"),
        (wording.lost(-0.0, "accuracy"), "0.00 points"),
        (wording.lost(0.01, "rmse"), "1.00 % of the spread of y"),
        (wording.figure(None), "–"),
        (wording.short("20.0 kB"), "20 kB"),
        (wording.short("0.50×"), "0.5×"),
        (wording.short("100 µs"), "100 µs"),
    ],
)
def test_numbers_in_words(said: str, want: str) -> None:
    """CMP-RPT-1: three or four digits and a unit."""
    assert said == want
