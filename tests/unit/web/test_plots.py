"""Geometry of pictures made on the server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.plots import SERIES, axis, front, marker

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)
SCORES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=15)


@given(values=VALUES)
def test_every_value_lies_on_its_axis_between_few_round_ticks(values: list[float]) -> None:
    across = axis(values, 50, 400)
    places = [across.place(value) for value in values]
    assert all(50 <= place <= 400 for place in places)
    assert sorted(places) == [across.place(value) for value in sorted(values)]
    ticks = across.ticks()
    assert 1 <= len(ticks) <= 7
    assert all(50 <= tick.place <= 400 for tick in ticks)


def test_ticks_say_as_many_digits_as_they_need() -> None:
    assert [tick.label for tick in axis([0.0, 1.0], 0, 100).ticks()] == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.label for tick in axis([-10.0, 10.0], 0, 100).ticks()] == ["−10", "−5", "0", "5", "10"]
    assert len({tick.label for tick in axis([0.0001, 0.0004], 0, 100).ticks()}) == len(axis([0.0001, 0.0004], 0, 100).ticks())


@given(points=SCORES)
def test_the_front_is_what_no_other_dominates(points: list[tuple[int, int]]) -> None:
    def dominated(one: tuple[int, int]) -> bool:
        return any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in points)

    assert set(front([(float(x), float(y)) for x, y in points])) == {point for point in points if not dominated(point)}


@pytest.mark.parametrize("series", range(1, 2 * SERIES + 1))
def test_each_series_has_a_shape_of_its_own_around_its_place(series: int) -> None:
    path = marker(series, 100, 50, 5)
    assert path == marker(series + SERIES, 100, 50, 5)
    assert len({marker(one, 100, 50, 5) for one in range(1, SERIES + 1)}) == SERIES
    corners = [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)]
    assert all(abs(x - 100) < 8 and abs(y - 50) < 8 for x, y in corners)
