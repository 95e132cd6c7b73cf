"""Pieces of HTML and SVG."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.report.html import Cell, figure, number, pairs, paragraph, section, table
from caafp_app.report.svg import Line, draw, matrix, ticks

NASTY = "<script>alert('x')</script>&\""


def test_whatever_comes_from_a_file_is_escaped() -> None:
    pieces = (
        table([NASTY], [[NASTY, Cell(NASTY), Cell(NASTY, 1.0)]], sortable=True),
        pairs([(NASTY, NASTY)]),
        section(NASTY, paragraph(NASTY)),
        section(NASTY, "x", folded=True),
        figure("<svg/>", NASTY),
        draw([Line(NASTY, [(1, 1)])] * 2, NASTY, spans=[(1, NASTY)]),
        matrix([[1.0]], [NASTY], "distance"),
    )
    for piece in pieces:
        assert "<script" not in piece
        ElementTree.fromstring(f"<div>{piece}</div>")  # well-formed, all of them


def test_numbers_are_rounded_and_unknown_ones_sort_first() -> None:
    assert number(0.12345, 2, 100.0) == Cell("12.35", pytest.approx(12.345))  # type: ignore[arg-type]
    assert number(None).text == number(float("nan")).text == "-"
    assert number(0.25, shade=True).shade == 0.25
    # What is not known stands below all that is.
    unknown, known = number(None).value, number(-1e9).value
    assert unknown is not None
    assert known is not None
    assert unknown < known


def test_an_empty_section_is_left_out() -> None:
    assert section("x", "", paragraph("")) == ""
    assert figure("", "caption") == ""


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    high = low + span
    if high <= low:
        return
    found = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), span)
    assert 2 <= len(found) <= 12
    assert all(low - slack <= tick <= high + slack for tick in found)
    assert found == sorted(found)


class TestCharts:
    def points(self, svg: str) -> list[list[tuple[float, float]]]:
        return [
            [tuple(map(float, pair.split(","))) for pair in text.split()]  # type: ignore[misc]
            for text in re.findall(r'points="([^"]*)"', svg)
        ]

    def test_larger_is_higher_and_later_is_further_right(self) -> None:
        (line,) = self.points(draw([Line("a", [(1, 0.0), (2, 1.0), (4, 0.5)])], "y"))
        (x1, y1), (x2, y2), (x3, y3) = line
        assert x1 < x2 < x3
        assert y2 < y3 < y1  # SVG counts downwards
        assert x3 - x2 == pytest.approx(2 * (x2 - x1), abs=0.2)
        assert y1 - y3 == pytest.approx((y1 - y2) / 2, abs=0.2)

    def test_steps_hold_until_the_next(self) -> None:
        (line,) = self.points(draw([Line("a", [(1, 1.0), (2, 0.5)], steps=True)], "y"))
        assert [y for _, y in line] == [line[0][1], line[0][1], line[2][1]]
        assert line[1][0] == line[2][0]

    def test_an_empty_chart_is_empty_text(self) -> None:
        assert draw([Line("a", [])], "y") == matrix([], [], "x") == ""
        assert "<circle" in draw([Line("a", [(3, 0.5)])], "y")

    def test_a_legend_where_there_are_several(self) -> None:
        one, two = Line("first", [(1, 1)]), Line("second", [(1, 2)])
        assert "legend" not in draw([one], "y")
        assert draw([one, two, Line("empty", [])], "y").count("<span>") == 2

    def test_matrix_is_dark_where_it_is_large(self) -> None:
        svg = matrix([[0.0, 2.0], [1.0, 0.0]], ["a", "b"], "distance")
        fills = re.findall(r'fill="rgb\((\d+),', svg)
        assert [int(red) for red in fills] == [255, 0, 128, 255]
        assert "a, b: distance 2.000" in svg
