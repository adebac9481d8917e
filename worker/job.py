"""Inside a job's process: one job carried out, and recorded how it ended."""

from __future__ import annotations

import importlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from app.db import make_engine, reading, writing
from app.lifecycle import jobs
from app.lifecycle.jobs import JobLost
from app.processes.lifeline import die_with_parent
from app.secrets.redaction import redacted
from app.settings import read_settings
from app.telemetry.structured_logs import configure_logging
from opcod.errors import UserError
from worker.settings import WorkerSettings

log = logging.getLogger("job")

KINDS: Mapping[str, str] = {
    "replay": "worker.replaying",
    "preflight": "worker.preflighting",
    "specialist": "worker.teaching",
    "chat": "worker.chatting",
}
"""Kind of job -> the module whose `carry_out` does it. It is imported when it is needed: it may load torch."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a job's `carry_out` is given."""

    id: int
    exchange_id: int | None
    request: dict[str, Any]
    owner: str
    engine: Engine
    settings: WorkerSettings
    tell: Callable[[float, dict[str, Any]], None]
    """Takes the fraction that is done and what there is so far, for whoever waits."""
    records: list[Callable[[Session], None]] = field(default_factory=list)
    """What is recorded in the transaction that ends the job, and so only if it is still wanted."""


def main() -> int:
    """Read which job it is, do it, record it. The exit status is 0 whenever its end is recorded."""
    die_with_parent(signal.SIGKILL)
    sys.stdout, sys.stderr = redacted(sys.stdout), redacted(sys.stderr)
    assignment = json.loads(sys.stdin.readline())
    job_id, token = int(assignment["job_id"]), int(assignment["token"])
    settings = read_settings(WorkerSettings)
    configure_logging(settings.log_format, sys.stderr, level=settings.log_level, program="job", job_id=job_id)
    engine = make_engine(settings.database_url)
    try:
        carry_out(engine, settings, job_id, token)
    except JobLost:
        log.info("job %s is no longer wanted", job_id)
    except Exception as error:  # the task runner: a user's mistake is told, ours is logged
        told = _told(error)
        with writing(engine) as session:
            jobs.fail(session, job_id, token, kind=told.kind, message=told.message, advice=told.advice)
    return 0


def carry_out(engine: Engine, settings: WorkerSettings, job_id: int, token: int) -> None:
    """Do a job that is held with `token`, and record what came of it.

    Raises:
        JobLost: nobody wants it any more.
    """

    def tell(progress: float, result: dict[str, Any]) -> None:
        with writing(engine) as session:
            jobs.report(session, job_id, token, progress=progress, result=result)

    with reading(engine) as session:
        row = jobs.get(session, job_id)
    done: Callable[[Job], dict[str, Any]] = importlib.import_module(KINDS[row.kind]).carry_out
    job = Job(job_id, row.exchange_id, row.request, row.owner, engine, settings, tell)
    result = done(job)
    with writing(engine) as session:
        jobs.finish(session, job_id, token, result)
        for record in job.records:
            record(session)


def _told(error: Exception) -> UserError:
    if isinstance(error, UserError):
        log.error("%s", error, exc_info=error.__cause__)
        return error
    log.error("the job failed", exc_info=error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        told = UserError("Memory ran out.", advice="Ask for fewer samples, or wait until the worker is idle.")
        told.kind = "resource"
        return told
    told = UserError("Something went wrong inside OPCoD Studio.", advice="The worker's log has the details.")
    told.kind = "internal"
    return told
