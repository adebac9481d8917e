"""Contexts that many viewers ask for at once, made once for all of them.

A context is kept with the place in the stream of events that it shows. Whoever asks later is given it
as long as nothing has happened since; every change of a run is an event. It holds nothing of the viewer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, func
from sqlmodel import Session, col, select

from app.tables import EventRow, RunRow

T = TypeVar("T")

QUIET = ("exchange_recorded", "checkpoint_saved", "checkpoints_changed")
"""Kinds of event that change nothing on lists and heads."""
LONGEST_SECONDS = 3.0
"""What changes without an event, such as the time left, may be so old."""
MOST = 500
"""Contexts of one database that are kept."""


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    version: object = None
    made_at: float = -LONGEST_SECONDS
    value: Any = None


_KEPT: WeakKeyDictionary[Engine, dict[object, _Entry]] = WeakKeyDictionary()


def shared(session: Session, key: object, version: object, make: Callable[[], T]) -> T:
    """What `make` made for `key` at this `version`, or makes now; of several who ask at once one makes it and the others wait."""
    bind = session.get_bind()
    kept = _KEPT.setdefault(bind if isinstance(bind, Engine) else bind.engine, {})
    if len(kept) > MOST:
        kept.clear()
    entry = kept.setdefault(key, _Entry())
    with entry.lock:
        if entry.version != version or time.monotonic() - entry.made_at > LONGEST_SECONDS:
            entry.value, entry.version, entry.made_at = make(), version, time.monotonic()
        return cast(T, entry.value)


def version_of_run(session: Session, run_id: int) -> int:
    """Changes with everything that a run's head and results show."""
    loud = select(EventRow.id).where(col(EventRow.run_id) == run_id, col(EventRow.kind).not_in(QUIET))
    return session.exec(loud.order_by(col(EventRow.id).desc()).limit(1)).first() or 0


def version_of_runs(session: Session) -> tuple[int, int]:
    """Changes with everything that a list of runs shows."""
    loud = select(EventRow.id).where(col(EventRow.kind).not_in(QUIET)).order_by(col(EventRow.id).desc()).limit(1)
    return session.exec(loud).first() or 0, session.exec(select(func.count()).select_from(RunRow)).one()
