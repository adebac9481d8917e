"""What the pages of the queue and of the workers show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from app import shapes
from app.db import now
from app.errors import Conflict
from app.lifecycle import queueing
from app.lifecycle.runs import HELD
from app.lifecycle.workers import SILENT_AFTER
from app.records import queries
from app.records.run_summaries import summarise
from app.tables import AttemptRow, RunRow, WorkerRow
from app.web.contexts import hue_of

REMEMBERED = timedelta(days=1)
"""A silent worker is shown for so long."""


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """A run in the queue."""

    run: shapes.Run
    needs: str
    since: datetime
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class HeldLine:
    """A run that a worker has."""

    run: shapes.Run
    worker: str
    device: str
    since: datetime


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Who waits, and who is being served. `cursor` is the place in the live stream that the page already shows."""

    waiting: tuple[WaitingLine, ...]
    held: tuple[HeldLine, ...]
    cursor: int
    notice: str


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker and what it does."""

    worker: shapes.Worker
    alive: bool
    run: shapes.Run | None
    phase_hue: int


@dataclass(frozen=True, slots=True)
class WorkersPage:
    """Workers heard of within a day, those that live first."""

    lines: tuple[WorkerLine, ...]
    alive: int


def queue_page(session: Session, *, refused: Conflict | None = None) -> QueuePage:
    """The queue; `refused` is a move that the run's status did not allow."""
    cursor = queries.newest_arrival(session)
    waiting = session.exec(queueing.waiting()).all()
    taken = session.exec(
        select(RunRow, AttemptRow)
        .join(AttemptRow, col(AttemptRow.id) == col(RunRow.attempt_id))
        .where(col(RunRow.status).in_(HELD))
        .order_by(col(AttemptRow.id))
    ).all()
    runs = {run.id: run for run in summarise(session, [*waiting, *(row for row, _ in taken)])}
    lines = tuple(
        WaitingLine(
            run=runs[row.id or 0],
            needs=str(queueing.needs_of_run(row)),
            since=row.queued_at or row.created_at,
            first=place == 0,
            last=place == len(waiting) - 1,
        )
        for place, row in enumerate(waiting)
    )
    held = tuple(HeldLine(runs[row.id or 0], attempt.worker, attempt.device, attempt.started_at) for row, attempt in taken)
    return QueuePage(lines, held, cursor, str(refused) if refused else "")


def workers_page(session: Session) -> WorkersPage:
    """The workers."""
    rows = session.exec(select(WorkerRow).where(col(WorkerRow.seen_at) > now() - REMEMBERED).order_by(col(WorkerRow.name))).all()
    busy = [row.run_id for row in rows if row.run_id is not None]
    runs = {run.id: run for run in queries.run_summaries(session, busy)}
    lines = []
    for row in rows:
        alive = row.seen_at > now() - SILENT_AFTER
        run = runs.get(row.run_id or 0) if alive else None
        lines.append(WorkerLine(shapes.Worker.model_validate(row), alive, run, _phase_hue(run)))
    lines.sort(key=lambda line: not line.alive)
    return WorkersPage(tuple(lines), sum(line.alive for line in lines))


def _phase_hue(run: shapes.Run | None) -> int:
    return hue_of(run.progress.phase, [student.name for student in run.students]) if run else 0
