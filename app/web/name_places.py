"""Where names stand in a plot: beside what they name, and on as little of what else is drawn there as may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, hypot
from typing import Literal

Place = tuple[float, float]
"""Pixels from the left and from the top."""
Anchor = Literal["start", "middle", "end"]
AROUND: Sequence[tuple[float, float, Anchor]] = (
    (10, -9, "start"),
    (-10, -9, "end"),
    (10, 19, "start"),
    (-10, 19, "end"),
    (0, -14, "middle"),
    (0, 25, "middle"),
)
"""Where a name may stand: from its point to the baseline's beginning, middle or end; the first is best."""
LETTER, HEIGHT = 7.0, 13.0
"""Size of a bold letter."""
APART = 8.0
"""Pixels between the places by which something drawn is told."""
OUTSIDE = 10_000
"""What lying outside of the frame counts for, in places that are covered."""
SIDES = (("left", min), ("top", min), ("right", max), ("bottom", max))


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, place: Place) -> bool:
        return self.left <= place[0] <= self.right and self.top <= place[1] <= self.bottom

    def lies_in(self, other: Box) -> bool:
        return self.left >= other.left and self.top >= other.top and self.right <= other.right and self.bottom <= other.bottom

    def places(self) -> Iterator[Place]:
        """All over it."""
        for column in range(ceil((self.right - self.left) / APART) + 1):
            for row in range(ceil((self.bottom - self.top) / APART) + 1):
                yield min(self.left + column * APART, self.right), min(self.top + row * APART, self.bottom)


@dataclass(frozen=True, slots=True)
class Name:
    """Where a name's text begins, is centred or ends, and the room that it takes."""

    x: float
    y: float
    anchor: Anchor
    box: Box


def along(line: Sequence[Place]) -> Iterator[Place]:
    """Places on a line of straight parts."""
    yield from line[:1]
    for (x, y), (next_x, next_y) in pairwise(line):
        parts = max(1, ceil(hypot(next_x - x, next_y - y) / APART))
        right, down = (next_x - x) / parts, (next_y - y) / parts
        for part in range(1, parts + 1):
            yield x + right * part, y + down * part


def text_box(text: str, x: float, y: float, anchor: Anchor) -> Box:
    """About the room that a text takes whose baseline is at `y`."""
    width = LETTER * len(text)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return Box(left, y - HEIGHT + 3, left + width, y + 3)


def name_places(names: Sequence[tuple[str, Place]], taken: Iterable[Place], frame: Box) -> list[Name]:
    """A place beside its point for each name, one after the other, where it covers fewest of the places that are taken."""
    covered = [*taken]
    found = []
    for name, (x, y) in names:
        choices = [Name(x + right, y + down, anchor, text_box(name, x + right, y + down, anchor)) for right, down, anchor in AROUND]
        about = Box(*(pick(getattr(one.box, side) for one in choices) for side, pick in SIDES))
        near = [(right, down) for right, down in covered if about.left <= right <= about.right and about.top <= down <= about.bottom]
        best = min(choices, key=lambda one: sum(map(one.box.holds, near)) + OUTSIDE * (not one.box.lies_in(frame)))
        found.append(best)
        covered += best.box.places()
    return found
