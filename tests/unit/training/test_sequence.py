"""Event numbers name places: each place its own, rising, and the same whenever the place is reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.events import RoundStarted
from opcod.training.sequence import SequenceNumbers

PLACES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 6)), min_size=1, unique=True).map(sorted)


def numbers_at(places: list[tuple[int, int, int]], events: int) -> list[int]:
    numbers = SequenceNumbers(parts=4, lanes=7)
    found = []
    for place in places:
        numbers.go_to(*place)
        found += [numbers.stamp(RoundStarted(round=0)).seq for _ in range(events)]
    return found


@given(PLACES, st.integers(1, 5))
def test_numbers_rise_and_differ(places: list[tuple[int, int, int]], events: int) -> None:
    found = numbers_at(places, events)
    assert found == sorted(set(found))
    assert min(found) > 0


@given(PLACES, st.integers(1, 5), st.data())
def test_a_place_reached_from_elsewhere_numbers_alike(places: list[tuple[int, int, int]], events: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(places) - 1))
    assert numbers_at(places[start:], events) == numbers_at(places, events)[start * events :]


def test_going_back_and_out_of_range_is_refused() -> None:
    numbers = SequenceNumbers(parts=2, lanes=2)
    numbers.go_to(1)
    with pytest.raises(ValueError, match="forward"):
        numbers.go_to(0)
    with pytest.raises(ValueError, match="no such place"):
        numbers.go_to(1, 2)


def test_it_goes_on_from_a_number() -> None:
    numbers = SequenceNumbers(parts=2, lanes=2)
    numbers.go_to(3, 1, 1)
    last = numbers.stamp(RoundStarted(round=0)).seq
    resumed = SequenceNumbers(parts=2, lanes=2)
    resumed.go_on_from(last)
    assert resumed.stamp(RoundStarted(round=0)).seq == last + 1
