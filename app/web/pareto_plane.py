"""Geometry of the Pareto plane: two domains as axes, one path a student, one point a validation.

The region that counts as improvement is everything right of and above a student's first point.
Coordinates are pixels of an SVG of `SIZE`; scores are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from app.web.contexts import hue_of
from app.web.name_places import Anchor, Box, Place, along, name_places, text_box
from app.web.plots import Tick
from opcod.types import Evaluation

SIZE = (440, 400)
LEFT, TOP, RIGHT, BOTTOM = 50, 14, 14, 44
MOST_NUMBERS = 9
"""Points of a path that say their round."""
MOST_DOMAINS = 4
"""With more domains there are too many pairs to look at; the table of scores says it all."""


@dataclass(frozen=True, slots=True)
class Point:
    """One validation of a student."""

    x: float
    y: float
    low: tuple[float, float]
    """Pixel of the interval's low end on either axis."""
    high: tuple[float, float]
    label: str
    last: bool
    round: int
    """The round that led here; 0 before training."""
    numbered: bool
    """Whether there is room for the round's number."""


@dataclass(frozen=True, slots=True)
class Path:
    """A student's way through the plane."""

    student: str
    hue: int
    points: tuple[Point, ...]
    name_x: float
    name_y: float
    name_anchor: Anchor

    @property
    def line(self) -> str:
        return " ".join(f"{point.x},{point.y}" for point in self.points)


@dataclass(frozen=True, slots=True)
class Plane:
    """One pair of domains."""

    x_domain: str
    y_domain: str
    paths: tuple[Path, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = SIZE[0]
    height: int = SIZE[1]
    left: int = LEFT
    top: int = TOP
    right_edge: int = SIZE[0] - RIGHT
    bottom_edge: int = SIZE[1] - BOTTOM


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> tuple[Tick, ...]:
        low, high = max(0.0, self.low), min(1.0, self.high)
        step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 6.01), 0.25)
        values = [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        return tuple(Tick(self.place(value), f"{100 * value:.0f}") for value in values)


def planes(evaluations: Sequence[Evaluation], students: Sequence[str], domains: Sequence[str]) -> tuple[Plane, ...]:
    """A plane for each pair of domains, from validation scores only; none where pairs are too few or too many."""
    if not 2 <= len(domains) <= MOST_DOMAINS:
        return ()
    by_key = {(item.student, item.round, item.domain): item for item in evaluations if item.split == "validation"}
    rounds = sorted({item.round for item in evaluations})
    found = (_plane(by_key, students, rounds, x, y) for x, y in combinations(domains, 2))
    return tuple(plane for plane in found if plane.paths)


def _plane(by_key: Mapping[tuple[str, int, str], Evaluation], students: Sequence[str], rounds: Sequence[int], x: str, y: str) -> Plane:
    pairs = {
        name: [
            (number, by_key[name, number, x], by_key[name, number, y])
            for number in rounds
            if {(name, number, x), (name, number, y)} <= by_key.keys()
        ]
        for name in students
    }
    across = _axis([item for walk in pairs.values() for _, item, _ in walk], LEFT, SIZE[0] - RIGHT)
    up = _axis([item for walk in pairs.values() for _, _, item in walk], SIZE[1] - BOTTOM, TOP)
    paths = []
    for name in students:
        walk = pairs[name]
        if not walk:
            continue
        every = -(-len(walk) // MOST_NUMBERS)
        points = tuple(
            Point(
                across.place(a.score),
                up.place(b.score),
                (across.place(max(a.low, across.low)), up.place(max(b.low, up.low))),
                (across.place(min(a.high, across.high)), up.place(min(b.high, up.high))),
                f"{name}, {'before training' if number == 0 else f'after round {number}'}\n"
                f"{x} {100 * a.score:.1f} ({100 * a.low:.1f} to {100 * a.high:.1f})\n"
                f"{y} {100 * b.score:.1f} ({100 * b.low:.1f} to {100 * b.high:.1f})",
                place == len(walk) - 1,
                number,
                place % every == 0 and place != len(walk) - 1,
            )
            for place, (number, a, b) in enumerate(walk)
        )
        paths.append(Path(name, hue_of(name, students), points, 0, 0, "start"))
    return Plane(x, y, _named(paths), across.ticks(), up.ticks())


def _named(paths: Sequence[Path]) -> tuple[Path, ...]:
    """With each student's name beside its last point, clear of what is drawn as far as may be."""
    taken: list[Place] = []
    for path in paths:
        taken += along([(point.x, point.y) for point in path.points])
        for point in path.points:
            if point.numbered:
                taken += text_box(str(point.round or "start"), point.x, point.y + 15, "middle").places()
    ends = [(path.student, (path.points[-1].x, path.points[-1].y)) for path in paths]
    places = name_places(ends, taken, Box(LEFT, TOP, SIZE[0] - RIGHT, SIZE[1] - BOTTOM))
    return tuple(replace(path, name_x=name.x, name_y=name.y, name_anchor=name.anchor) for path, name in zip(paths, places, strict=True))


def _axis(items: Sequence[Evaluation], start: float, end: float) -> _Axis:
    if not items:
        return _Axis(0, 1, start, end)
    low, high = min(item.low for item in items), max(item.high for item in items)
    pad = max(0.02, 0.05 * (high - low))
    return _Axis(low - pad, high + pad, start, end)
