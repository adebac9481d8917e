"""Which steps a chart shows, and how many of them become one entry.

Entries begin at multiples of their width, so that a chart which has drawn some of them can ask for the later ones and
put them beside those it has: an entry means the same whenever it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import Session, select

from app.tables import RunRow

LAST = 2**31 - 1
CURVE_POINTS = 1000
TALLY_POINTS = 300
HEAT_POINTS = 120
"""Entries of a run's charts."""


@dataclass(frozen=True, slots=True)
class Window:
    """Steps from `first` to `last`, both included, at most `points` entries of `width` steps (0: as it comes out)."""

    first: int = 0
    last: int | None = None
    points: int = 1000
    width: int = 0

    def settled(self, newest: int) -> Window:
        """With a width, where `newest` is the last step that there is."""
        if self.width:
            return self
        last = newest if self.last is None else min(self.last, newest)
        steps = max(1, last - max(1, self.first) + 1)
        return replace(self, width=grid(steps, self.points))

    @property
    def is_whole(self) -> bool:
        """Whether it leaves nothing out."""
        return self.first == 0 and self.last is None

    @property
    def begins(self) -> int:
        """Its first step, such that no entry is cut."""
        return self.first - self.first % self.width if self.width else self.first

    @property
    def ends(self) -> int:
        """Its last step, such that no entry is cut."""
        last = LAST if self.last is None else self.last
        return min(LAST, last - last % self.width + self.width - 1) if self.width else last

    def conditions(self, row: Any) -> list[ColumnElement[bool]]:
        """For a query of a table with steps."""
        found: list[ColumnElement[bool]] = [row.step >= self.begins] if self.begins > 0 else []
        return [*found, row.step <= self.ends] if self.ends < LAST else found


def grid(steps: int, points: int) -> int:
    """A power of two, so that wide entries are made of narrow ones: the smallest with which `steps` are at most so many entries."""
    return 1 << (-(-steps // points) - 1).bit_length() if steps > points else 1


def steps_done(session: Session, run_id: int) -> int:
    """The most updates that any student of the run has made."""
    done = session.exec(select(RunRow.steps_done).where(RunRow.id == run_id)).one()
    return max(done.values(), default=0)
