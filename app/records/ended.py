"""What is read of a run that has ended, remembered: nothing of it changes any more, unless it is resumed, which takes its end away.

Lists and comparisons show many runs at once, most of which have ended long ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlmodel import Session

T = TypeVar("T")
MOST = 4000
"""Readings of one database that are remembered, of a few KB each."""
_KNOWN: WeakKeyDictionary[Engine, dict[tuple[object, int], tuple[datetime, Any]]] = WeakKeyDictionary()


class Ends(Protocol):
    """A run as it is stored or shown."""

    @property
    def id(self) -> int | None: ...
    @property
    def ended_at(self) -> datetime | None: ...


def remembered(session: Session, runs: Iterable[Ends], read: Callable[[Session, Sequence[int]], Mapping[int, T]]) -> dict[int, T]:
    """Run -> what `read` finds of it: read now of runs that have not ended, at most once of those that have.

    Others are given the same: nobody may change it.
    """
    bind = session.get_bind()
    known = _KNOWN.setdefault(bind if isinstance(bind, Engine) else bind.engine, {})
    found: dict[int, T] = {}
    ended: dict[int, datetime | None] = {}
    for run in runs:
        entry = known.get((read, run.id or 0))
        if entry is not None and entry[0] == run.ended_at:
            found[run.id or 0] = entry[1]
        else:
            ended[run.id or 0] = run.ended_at
    if ended:
        fresh = read(session, list(ended))
        found |= fresh
        if len(known) + len(fresh) > MOST:
            known.clear()
        known.update({(read, run_id): (at, fresh[run_id]) for run_id, at in ended.items() if at is not None and run_id in fresh})
    return found
