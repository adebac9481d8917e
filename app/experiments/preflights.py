"""Pre-flights: an experiment looked at by a worker before hours are spent on it. Each is a job (`app.lifecycle.jobs`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from app import shapes
from app.experiments.preflight_shapes import PreflightJob
from app.lifecycle import asking, jobs, queueing
from app.lifecycle.jobs import JobState
from app.records import configurations
from app.records.jobs_read import error_of, job_of_kind, newest_first
from app.tables import JobRow
from opcod.config import ExperimentConfig
from opcod.preflight.findings import Preflight, PreflightSize

KIND = "preflight"
NEWEST = 50
"""Completed ones in which a launched run looks for its own."""


def start(engine: Engine, broker_url: str, config: ExperimentConfig, size: PreflightSize, *, owner: str) -> int:
    """Queue a pre-flight of an experiment that holds, and tell the workers; its number.

    Raises:
        Refused: its owner has too many jobs that are not done.
    """
    plain = config.model_dump(mode="json")
    request = {"config": plain, "size": size.model_dump()}

    def ask(session: Session) -> int:
        job = jobs.create(session, KIND, owner=owner, needs=queueing.needs_of(plain), request=request)
        assert job.id is not None
        return job.id

    return asking.job(engine, broker_url, ask)


def read(session: Session, preflight_id: int) -> PreflightJob:
    """A pre-flight with what it found.

    Raises:
        NotFound
    """
    job = job_of_kind(session, KIND, preflight_id)
    doing = str((job.result or {}).get("doing", "")) if job.state == "running" else ""
    found = Preflight.model_validate(job.result) if job.state == "completed" else None
    return _shape(job).model_copy(update={"doing": doing, "found": found})


def listing(session: Session, *, before: int | None = None, limit: int = 50) -> shapes.Listing[PreflightJob]:
    """Pre-flights, newest first, without what they found, which is long."""
    rows = select(JobRow).options(defer(cast(Any, JobRow.result))).where(col(JobRow.kind) == KIND)
    return newest_first(session, rows, _shape, before=before, limit=limit)


def settings(session: Session, preflight_id: int) -> dict[str, Any]:
    """The configuration that it looked at.

    Raises:
        NotFound
    """
    return dict(job_of_kind(session, KIND, preflight_id).request["config"])


def newest_of(session: Session, config: ExperimentConfig) -> int | None:
    """The newest completed pre-flight of a configuration; name, seed and where it ran may be others."""
    rows = select(JobRow.id, JobRow.request).where(col(JobRow.kind) == KIND, col(JobRow.state) == "completed")
    wanted = config.model_dump(mode="json")
    newest = session.exec(rows.order_by(col(JobRow.id).desc()).limit(NEWEST)).all()
    return next((job_id for job_id, request in newest if same(request["config"], wanted)), None)


def same(here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether what is found of one configuration holds of the other."""
    one, other = (configurations.key(configurations.flat(config)) for config in (here, there))
    return one == other


def _shape(job: JobRow) -> PreflightJob:
    assert job.id is not None
    return PreflightJob(
        id=job.id,
        name=job.request["config"]["name"],
        owner=job.owner,
        state=cast(JobState, job.state),
        progress=job.progress,
        doing="",
        found=None,
        error=error_of(job),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )
