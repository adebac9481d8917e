"""Work for workers beside training: asked for by somebody, most of it done in minutes, kept with its result.

A job waits in SQL and is held by a lease with a fencing token, as runs are (`app.lifecycle.runs`). One whose worker vanishes,
or whose process is killed, waits again; that happens `TRIES` times, then it has failed. All functions work in the caller's
transaction; bells are rung after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from app.db import now
from app.errors import LONGEST_MESSAGE, NotFound, Refused
from app.lifecycle.queueing import Needs, Offer, takeable
from app.secrets.redaction import redact
from app.tables import JobRow
from opcod.plain_text import bounded

JobState = Literal["queued", "running", "completed", "failed", "cancelled"]
OPEN: tuple[JobState, ...] = ("queued", "running")
LONG = ("specialist",)
"""Kinds that take minutes to days; nobody who asked for something short should wait for one."""
Lane = Literal["short", "long"]
TRIES = 3
MOST_WAITING = 20
"""Of one person at once."""


class JobLost(Exception):  # noqa: N818 (a state of the world, told as such)
    """Whoever writes no longer holds the job: it was cancelled, or its lease lapsed."""


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A worker's hold on a job."""

    job_id: int
    token: int
    kind: str
    lease_seconds: float


def create(session: Session, kind: str, *, owner: str, needs: Needs, request: dict[str, Any], exchange_id: int | None = None) -> JobRow:
    """A job that waits.

    Raises:
        Refused: its owner has too many that are not done.
    """
    waiting = session.exec(select(col(JobRow.id)).where(col(JobRow.owner) == owner, col(JobRow.state).in_(OPEN)).limit(MOST_WAITING))
    if len(waiting.all()) == MOST_WAITING:
        raise Refused(f"{MOST_WAITING} jobs of yours wait or are under way.", "Wait for them, or cancel some.")
    job = JobRow(
        kind=kind,
        owner=owner,
        state="queued",
        request=request,
        exchange_id=exchange_id,
        needs_device=needs.device,
        needs_memory_gib=needs.memory_gib,
    )
    session.add(job)
    session.flush()
    return job


def claim(session: Session, *, worker: str, lease_seconds: float, offer: Offer, lane: Lane | None = None) -> JobClaim | None:
    """Take the job that has waited longest of those that `offer` fits, of one `lane` alone if it is given; None where there is none."""
    waiting = _next_for(offer)
    if lane is not None:
        waiting = waiting.where(col(JobRow.kind).in_(LONG) if lane == "long" else col(JobRow.kind).not_in(LONG))
    found = session.exec(waiting.with_for_update(skip_locked=True)).first()
    if found is None:
        return None
    moment = now()
    taken = session.exec(
        update(JobRow)
        .where(col(JobRow.id) == found, col(JobRow.state) == "queued")
        .values(
            state="running",
            token=JobRow.token + 1,
            worker=worker,
            started_at=moment,
            lease_until=moment + timedelta(seconds=lease_seconds),
            progress=0.0,
            result=None,
        )
        .returning(col(JobRow.token), col(JobRow.kind))
    ).first()
    return None if taken is None else JobClaim(found, taken[0], taken[1], lease_seconds)


def next_for(session: Session, offer: Offer) -> int | None:
    """The job that a worker with `offer` would take now."""
    return session.exec(_next_for(offer)).first()


def renew(session: Session, claim: JobClaim) -> bool:
    """Prolong the lease; False where the job is no longer the claimer's: it was cancelled, or another has it."""
    until = now() + timedelta(seconds=claim.lease_seconds)
    return bool(session.exec(_held(claim.job_id, claim.token).values(lease_until=until)).rowcount)


def report(session: Session, job_id: int, token: int, *, progress: float, result: dict[str, Any]) -> None:
    """What there is so far. `progress` is a fraction.

    Raises:
        JobLost
    """
    _change(session, job_id, token, progress=progress, result=result)


def finish(session: Session, job_id: int, token: int, result: dict[str, Any]) -> None:
    """It is done.

    Raises:
        JobLost
    """
    _change(session, job_id, token, state="completed", progress=1.0, result=result, ended_at=now(), lease_until=None)


def fail(session: Session, job_id: int, token: int, *, kind: str, message: str, advice: str = "") -> None:
    """It cannot be done.

    Raises:
        JobLost
    """
    told = {
        "error_kind": kind,
        "error_message": bounded(redact(message), LONGEST_MESSAGE),
        "error_advice": bounded(redact(advice), LONGEST_MESSAGE),
    }
    _change(session, job_id, token, state="failed", ended_at=now(), lease_until=None, **told)


def give_back(session: Session, claim: JobClaim, *, killed: bool) -> None:
    """The worker lets go of it unfinished: it waits again. `killed`: by no wish of the worker, which counts as a try.

    Raises:
        JobLost
    """
    job = session.get(JobRow, claim.job_id, populate_existing=True)
    if job is None or job.state != "running" or job.token != claim.token:
        raise JobLost
    _wait_again(job, "killed" if killed else None, now())
    session.flush()


def reap(session: Session) -> list[int]:
    """Let jobs wait again whose lease has lapsed; returns their ids."""
    moment = now()
    lapsed = session.exec(
        select(JobRow).where(col(JobRow.state) == "running", col(JobRow.lease_until) < moment).with_for_update(skip_locked=True)
    ).all()
    for job in lapsed:
        _wait_again(job, "lost", moment)
    session.flush()
    return [job.id for job in lapsed if job.id is not None and job.state == "queued"]


def cancel(session: Session, job_id: int) -> JobRow:
    """Nobody wants it any more. Its worker ends it within a second.

    Raises:
        NotFound
        Refused: it has ended.
    """
    ended = session.exec(
        update(JobRow)
        .where(col(JobRow.id) == job_id, col(JobRow.state).in_(OPEN))
        .values(state="cancelled", ended_at=now(), lease_until=None)
    )
    job = get(session, job_id)
    if not ended.rowcount:
        raise Refused(f"Job {job_id} is {job.state}; it cannot be cancelled.", "Nothing is left to do.")
    return job


def get(session: Session, job_id: int) -> JobRow:
    """One job.

    Raises:
        NotFound
    """
    job = session.get(JobRow, job_id, populate_existing=True)
    if job is None:
        raise NotFound("job", job_id)
    return job


def unannounced(session: Session, told_before: datetime) -> list[int]:
    """Waiting jobs of which workers were never told, or last told before `told_before`."""
    forgotten = col(JobRow.rung_at).is_(None) | (col(JobRow.rung_at) < told_before)
    waiting = select(col(JobRow.id)).where(col(JobRow.state) == "queued", forgotten).order_by(col(JobRow.id))
    return [job_id for job_id in session.exec(waiting).all() if job_id is not None]


def mark_announced(session: Session, job_id: int) -> None:
    """Workers have been told of it."""
    session.exec(update(JobRow).where(col(JobRow.id) == job_id).values(rung_at=now()))


def _next_for(offer: Offer) -> SelectOfScalar[int | None]:
    fitting = select(col(JobRow.id)).where(col(JobRow.state) == "queued", *takeable(offer, JobRow))
    return fitting.order_by(col(JobRow.id)).limit(1)


def _wait_again(job: JobRow, lapse: Literal["killed", "lost", None], moment: datetime) -> None:
    job.tries += lapse is not None
    job.lease_until, job.worker = None, None
    if job.tries < TRIES:
        job.state, job.rung_at = "queued", None
        return
    job.state, job.ended_at = "failed", moment
    job.error_kind = "worker_lost" if lapse == "lost" else "killed"
    job.error_message = f"Its process was ended {TRIES} times before it was done."
    job.error_advice = "Memory that ran out is the usual cause: ask for fewer samples, or wait until the worker is idle."


def _held(job_id: int, token: int) -> Any:
    return update(JobRow).where(col(JobRow.id) == job_id, col(JobRow.token) == token, col(JobRow.state) == "running")


def _change(session: Session, job_id: int, token: int, **values: Any) -> None:
    if not session.exec(_held(job_id, token).values(**values)).rowcount:
        raise JobLost
