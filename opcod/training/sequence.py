"""Event numbers that a resumed run finds again.

An event's `seq` is made of its place in the run (round, part, lane, index), not counted: a step that is
run twice numbers its events alike, whatever came before. Numbers rise in the order of emission.
"""

from __future__ import annotations

from opcod.events import Event

EVENTS_PER_PLACE = 1_000_000


class SequenceNumbers:
    """Stamps events with their place.

    `parts` bounds the consecutive stages of a round, `lanes` what happens inside one; both count from 0.
    With phases in turn a part is a student and a lane its step; side by side it is the other way round.
    """

    def __init__(self, *, parts: int, lanes: int) -> None:
        self.parts = parts
        self.lanes = lanes
        self._base = 0
        self._index = 0

    def go_to(self, round: int, part: int = 0, lane: int = 0) -> None:
        """The events that follow belong to this place; it must not lie before the last one.

        Raises:
            ValueError: a coordinate is out of range, or the place lies before the current one.
        """
        if round < 0 or not 0 <= part < self.parts or not 0 <= lane < self.lanes:
            raise ValueError(f"no such place: round {round}, part {part} of {self.parts}, lane {lane} of {self.lanes}")
        base = ((round * self.parts + part) * self.lanes + lane) * EVENTS_PER_PLACE
        if base < self._base:
            raise ValueError("events go forward only")
        if base > self._base:
            self._base, self._index = base, 0

    def go_on_from(self, seq: int) -> None:
        """The next event comes right after `seq`."""
        self._base, self._index = seq - seq % EVENTS_PER_PLACE, seq % EVENTS_PER_PLACE

    def next(self) -> int:
        """The number that the next event will get."""
        return self._base + self._index + 1

    def stamp(self, event: Event) -> Event:
        """The event with its number."""
        seq = self.next()
        if seq % EVENTS_PER_PLACE == 0:
            raise ValueError("too many events in one place")
        self._index += 1
        return event.model_copy(update={"seq": seq})
