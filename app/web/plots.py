"""Geometry of small pictures made on the server: axes with round ticks, markers that differ by shape, and a Pareto front.

Coordinates are pixels of an SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SERIES = 8
"""Colours and shapes there are for runs and configurations; after these they begin again."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A round value on an axis."""

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value; what lies outside is put on the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> tuple[Tick, ...]:
        """At most so many steps of 1, 2 or 5 times a power of ten."""
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return tuple(Tick(self.place(index * step), _label(index * step, digits)) for index in range(first, last + 1))


def axis(values: Iterable[float], start: float, end: float, *, least: float = 0.0) -> Axis:
    """An axis with room for all values, of at least so much range."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    pad = max(0.06 * (high - low), (least - (high - low)) / 2, abs(high) * 1e-3, 1e-9)
    return Axis(low - pad, high + pad, start, end)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other is at least as good as in both and better in one, from left to right."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(set(points), reverse=True):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]


def marker(series: int, x: float, y: float, radius: float) -> str:
    """The path of a series' own shape around a place; `series` counts from 1."""
    corners = [(4, 45.0, 1.15), (3, -90.0, 1.3), (4, 0.0, 1.3), (3, 90.0, 1.3), (5, -90.0, 1.2), (6, 0.0, 1.15)]
    kind = (series - 1) % SERIES
    if kind == 0:
        return f"M{x - radius:.1f} {y:.1f}a{radius} {radius} 0 1 0 {2 * radius} 0a{radius} {radius} 0 1 0 {-2 * radius} 0z"
    if kind == SERIES - 1:
        arm, thick = 1.25 * radius, 0.42 * radius
        corner = ((thick, -arm), (thick, -thick), (arm, -thick), (arm, thick), (thick, thick), (thick, arm))
        around = [*corner, *((-a, -b) for a, b in corner)]
        return "M" + "L".join(f"{x + a:.1f} {y + b:.1f}" for a, b in around) + "z"
    count, turn, scale = corners[kind - 1]
    angles = [math.radians(turn + 360 * index / count) for index in range(count)]
    return (
        "M" + "L".join(f"{x + scale * radius * math.cos(angle):.1f} {y + scale * radius * math.sin(angle):.1f}" for angle in angles) + "z"
    )


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _label(value: float, digits: int) -> str:
    if abs(value) >= 100_000 or digits > 5:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}".replace(",", "\u2009").replace("-", "−") if round(value, digits) else "0"
