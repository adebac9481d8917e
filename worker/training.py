"""Inside the training process: one run trained, its events stored, its ending reported to the worker (see `worker.control`)."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from app import live
from app.db import make_engine, writing
from app.errors import LeaseLost
from app.guards import roots, servers
from app.lifecycle.runs import hold
from app.processes.lifeline import die_with_parent
from app.records import notices
from app.secrets.redaction import redacted
from app.telemetry import tracing
from app.telemetry.structured_logs import configure_logging, make_handler
from app.telemetry.tracing import configure_tracing
from opcod.config import parse_config
from opcod.errors import UserError
from opcod.sinks import FanOut
from worker.control import DISK_FULL, LOG_DESCRIPTOR, WORKER_VARIABLE, Assignment, Report, StopRequest, only_writer
from worker.runner import internal_error
from worker.settings import WorkerSettings
from worker.sinks import LogSink, SqlSink, StepSpans

log = logging.getLogger("training")


def main() -> int:
    """Read the assignment, train, leave a report. The exit status is 0 whenever there is a report."""
    die_with_parent(signal.SIGHUP)
    sys.stdout, sys.stderr = redacted(sys.stdout), redacted(sys.stderr)
    configure_logging("text", sys.stderr)
    stop = StopRequest()
    try:
        assignment = Assignment.model_validate_json(sys.stdin.readline())
    except ValidationError as error:
        print(f"This program is started by a worker: {error}", file=sys.stderr)
        return 2
    _collect_logs(assignment)
    stop.listen(sys.stdin)
    configure_tracing("training")
    report = _attempt(assignment, stop)
    tracing.flush()
    log.info("attempt %s of run %s: %s %s", assignment.token, assignment.run_id, report.outcome, report.message)
    try:
        report.save(assignment.folder)
    except OSError as error:
        log.error("the report could not be written: %s", error)
        return DISK_FULL
    return 0


def _collect_logs(assignment: Assignment) -> None:
    """The run's log is for people; where logs are collected as JSON, the same lines go there too."""
    descriptor = os.environ.pop(LOG_DESCRIPTOR, None)
    if descriptor is not None:
        stream = open(int(descriptor), "w", buffering=1, encoding="utf-8")  # noqa: SIM115 (open as long as the process)
        worker = os.environ.get(WORKER_VARIABLE, "")
        handler = make_handler("json", stream, program="training", worker=worker, run_id=assignment.run_id, attempt=assignment.token)
        logging.getLogger().addHandler(handler)


def _attempt(assignment: Assignment, stop: StopRequest) -> Report:
    """Train; whatever happens becomes a report."""
    try:
        log.info("attempt %s of run %s begins", assignment.token, assignment.run_id)
        return Report(token=assignment.token, outcome=_train(assignment, stop))
    except LeaseLost as error:
        log.error("%s", error)
        return Report(token=assignment.token, outcome="lost")
    except UserError as error:
        log.error("%s", error, exc_info=error.__cause__)
        return Report(token=assignment.token, outcome="failed", kind=error.kind, message=error.message, advice=error.advice)
    except Exception as error:  # the task runner: ours, unless the machine's resources ran out
        log.exception("the run failed")
        return _resource(assignment.token, error) or internal_error(assignment.token)


def _train(assignment: Assignment, stop: StopRequest) -> Literal["completed", "stopped"]:
    settings = WorkerSettings()
    config = parse_config(assignment.config)
    with roots.confined(roots.folders_of(settings)), servers.confined(servers.hosts_of(settings)):
        roots.stay_within(config)
        servers.stay_within(config)
    ring = partial(live.ring, settings.broker_url, assignment.run_id)
    engine = make_engine(settings.database_url)

    def tell(message: str) -> None:
        log.warning("%s", message)
        try:
            with writing(engine) as session:
                hold(session, assignment.run_id, assignment.token)
                notices.add(session, assignment.run_id, "checkpoint", message)
        except SQLAlchemyError as error:
            log.warning("the page could not be told: %s", error)

    with (
        only_writer(assignment.folder),
        SqlSink(engine, assignment.run_id, assignment.token, ring, patience_seconds=settings.patience_seconds) as sink,
    ):
        log.info("loading libraries, data and students")
        from opcod.training.trainer import train  # takes seconds; the log should not be empty until then

        told = FanOut(sink, LogSink(), StepSpans(assignment.run_id, assignment.traceparent))
        return train(config, assignment.folder, told, stop, tell).outcome


def _resource(token: int, error: BaseException) -> Report | None:
    """Memory or disk that ran out, wherever in the chain of causes it stands; None: it is something else."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            advice = "Lower compute.micro_batch_tokens or generation.batch_size, or train adapters; then resume the run."
            return Report(token=token, outcome="failed", kind="resource", message="Memory ran out during training.", advice=advice)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"The disk is full: {Path(str(cause.filename)).name if cause.filename else 'a file'} could not be written."
            return Report(token=token, outcome="failed", kind="resource", message=message, advice="Free space, then resume the run.")
        cause = cause.__cause__ or cause.__context__
    return None
