"""What every kind of job is read by: one job, a page of jobs, and why something failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from sqlmodel import Session, col
from sqlmodel.sql.expression import SelectOfScalar

from app import shapes
from app.errors import NotFound
from app.tables import JobRow, RunRow

S = TypeVar("S", bound=BaseModel)


def job_of_kind(session: Session, kind: str, job_id: int) -> JobRow:
    """One job, if it is of this kind.

    Raises:
        NotFound
    """
    job = session.get(JobRow, job_id)
    if job is None or job.kind != kind:
        raise NotFound(kind, job_id)
    return job


def newest_first(
    session: Session, rows: SelectOfScalar[JobRow], shape: Callable[[JobRow], S], *, before: int | None, limit: int
) -> shapes.Listing[S]:
    """A page of the jobs that `rows` selects, the newest first; `before` is the cursor of the page before."""
    rows = rows.order_by(col(JobRow.id).desc())
    if before is not None:
        rows = rows.where(col(JobRow.id) < before)
    found = session.exec(rows.limit(limit + 1)).all()
    items = [shape(job) for job in found[:limit]]
    return shapes.Listing(items=items, next_cursor=str(found[limit - 1].id) if len(found) > limit else None)


def error_of(row: JobRow | RunRow) -> shapes.ErrorShape | None:
    """Why a job or a run failed, if it did."""
    if row.error_kind is None:
        return None
    return shapes.ErrorShape(kind=row.error_kind, message=row.error_message or "", advice=row.error_advice or "")
