"""What all runs' artefacts take, and the budget that they share.

The web server writes the budget of its settings into SQL, so that every worker keeps to the same one. Sizes are what
workers measured last; nothing is walked through here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from app.tables import RunRow, StorageRow

WARN_AT = 0.8
"""Of the budget: from here on the pages warn."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes that artefacts take, and may take (0: no limit)."""

    used_bytes: int
    budget_bytes: int

    @property
    def fraction(self) -> float | None:
        """Of the budget; None without one."""
        return self.used_bytes / self.budget_bytes if self.budget_bytes else None

    @property
    def state(self) -> Literal["fine", "near", "over"]:
        """`over`: no new run starts."""
        part = self.fraction or 0.0
        return "over" if part >= 1 else "near" if part >= WARN_AT else "fine"

    @property
    def message(self) -> str | None:
        """What to say of it, where there is need to."""
        if self.state == "fine":
            return None
        used, budget = f"{self.used_bytes / GIB:.1f}", f"{self.budget_bytes / GIB:g}"
        if self.state == "over":
            return f"The disk budget of {budget} GiB is used up ({used} GiB): no new run starts until runs are deleted."
        return f"{used} GiB of the disk budget of {budget} GiB are used. At {budget} GiB no new run starts."


def usage(session: Session) -> Usage:
    """As it is now. Runs that are being deleted count until they are gone."""
    used = session.exec(select(func.coalesce(func.sum(col(RunRow.size_bytes)), 0))).one()
    storage = session.get(StorageRow, 1)
    return Usage(int(used), storage.budget_bytes if storage else 0)


def set_budget(session: Session, budget_gib: float) -> None:
    """What artefacts may take in all; 0: no limit."""
    budget = int(budget_gib * GIB)
    if not session.exec(update(StorageRow).values(budget_bytes=budget)).rowcount and budget:
        session.add(StorageRow(id=1, budget_bytes=budget))
