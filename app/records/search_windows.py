"""A search that may have to look into every text of a long run goes through it part by part, so that each answer comes soon.

An index finds texts that have all the words; whether they stand side by side it looks up text by text. A page looks so far, says so,
and its list goes on by itself from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.tables import ExchangeRow


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a run: up to exchange `last`, or down to it where the newest come first."""

    last: int
    beyond: int | None
    """A step whose exchanges all lie beyond the window; None where there is none near its end."""


def window_from(session: Session, run_id: int, after: int | None, length: int, *, by_step: bool, newest_first: bool) -> Window | None:
    """The part of the run of about `length` exchanges from `after` on (its beginning, or its end); None: all that is left of it.

    `by_step`: it ends where a step begins (or ends), if that can be.
    """
    key, run = col(ExchangeRow.id), col(ExchangeRow.run_id) == run_id
    if after is None:
        after = session.exec(select((func.max if newest_first else func.min)(key)).where(run)).one()
        if after is None:
            return None
    beyond = key <= after - length if newest_first else key >= after + length
    end = session.exec(select(key).where(run, beyond).order_by(key.desc() if newest_first else key).limit(1)).first()
    if end is None:
        return None
    if by_step:
        step = session.exec(select(ExchangeRow.step).where(key == end)).one()
        edge: Any = func.max(key + 0) if newest_first else func.min(key + 0)  # a sum has no index: a step's few are found by the step
        last = session.exec(select(edge).where(run, col(ExchangeRow.step) == step)).one() + (1 if newest_first else -1)
        if (last < after) if newest_first else (last > after):
            return Window(last, step)
    return Window(end, None)
