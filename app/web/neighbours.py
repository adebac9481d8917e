"""What stands before and after an exchange in a filtered list, without asking the index again for what the list has shown already."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from app.records.exchange_queries import ExchangeFilters, page_of_ids, reach

AROUND = 12
"""Exchanges on either side that are read where no list is: more than the rollouts of a question, as a rule."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the list without gaps, in order. `begins`: nothing stands before it; `ends`: nothing behind it."""

    ids: Sequence[int]
    begins: bool
    ends: bool


class Neighbours:
    """The run's exchanges that fit the filter, as seen from one place."""

    def __init__(self, session: Session, run_id: int, filters: ExchangeFilters, stretch: Stretch) -> None:
        self._session, self._run_id, self._filters, self._known = session, run_id, filters, stretch

    @classmethod
    def around(cls, session: Session, run_id: int, filters: ExchangeFilters, exchange_id: int) -> Neighbours:
        """With what stands right before and after an exchange."""
        before, after = (_next(session, run_id, filters, exchange_id, newest_first, AROUND) for newest_first in (True, False))
        return cls(session, run_id, filters, Stretch([*reversed(before), *after], len(before) < AROUND, len(after) < AROUND))

    def after(self, exchange_id: int) -> int | None:
        """The next one behind this id; None at the end."""
        known = self._known
        place = bisect_right(known.ids, exchange_id)
        if place or known.begins:
            if place < len(known.ids):
                return known.ids[place]
            if known.ends:
                return None
        return self._ask(exchange_id, newest_first=False)

    def before(self, exchange_id: int) -> int | None:
        """The last one before this id; None at the beginning."""
        known = self._known
        place = bisect_left(known.ids, exchange_id)
        if place < len(known.ids) or known.ends:
            if place:
                return known.ids[place - 1]
            if known.begins:
                return None
        return self._ask(exchange_id, newest_first=True)

    def _ask(self, exchange_id: int, *, newest_first: bool) -> int | None:
        return next(iter(_next(self._session, self._run_id, self._filters, exchange_id, newest_first, 1)), None)


def _next(session: Session, run_id: int, filters: ExchangeFilters, exchange_id: int, newest_first: bool, limit: int) -> list[int]:
    """As far as a page looks at once: what stands beyond is not found."""
    window = reach(session, run_id, filters, after=exchange_id, newest_first=newest_first)
    return page_of_ids(session, run_id, filters, after=exchange_id, window=window, newest_first=newest_first, limit=limit)
