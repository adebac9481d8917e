"""The loss of a fine-tuning step by step, in at most so many entries: neighbours are summed up, none is dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST = 400


@dataclass(slots=True)
class _Entry:
    first: int
    last: int
    total: float
    low: float
    high: float

    def join(self, other: _Entry) -> None:
        self.last, self.total = other.last, self.total + other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


@dataclass(slots=True)
class LossCurve:
    """Entries of `width` steps each; it doubles when there are too many."""

    width: int = 1
    entries: list[_Entry] = field(default_factory=list)

    def add(self, step: int, loss: float) -> None:
        """Steps come in order, from 1."""
        new = _Entry(step, step, loss, loss, loss)
        if self.entries and (step - 1) % self.width:
            self.entries[-1].join(new)
            return
        self.entries.append(new)
        if len(self.entries) > MOST:
            for left, right in zip(self.entries[::2], self.entries[1::2], strict=False):
                left.join(right)
            self.entries = self.entries[::2]
            self.width *= 2

    def columns(self) -> dict[str, Any]:
        """As `app.library.shapes.LossCurve`."""
        means = [one.total / (one.last - one.first + 1) for one in self.entries]
        return {
            "width": self.width,
            "first": [one.first for one in self.entries],
            "last": [one.last for one in self.entries],
            "mean": [_short(value) for value in means],
            "low": [_short(one.low) for one in self.entries],
            "high": [_short(one.high) for one in self.entries],
        }


def _short(value: float) -> float:
    return float(f"{value:.6g}")
