"""`python -m worker`: a worker on this machine, for one device. `opcod worker` is the same."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
import warnings
from functools import partial

from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging
from kombu.exceptions import OperationalError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import live
from app.db import make_engine, migrate
from app.processes.lifeline import die_with_parent
from app.settings import read_settings
from app.telemetry.structured_logs import configure_logging
from app.telemetry.tracing import configure_tracing
from opcod.errors import ResourceError, UserError
from worker.celery_app import connect_signals, make_celery
from worker.desk import Desk
from worker.settings import WorkerSettings
from worker.telemetry import find_device, worker_name

log = logging.getLogger("worker")

START_SECONDS = 10.0
"""How long a broker that is just starting is waited for."""


def main() -> int:
    """Run a worker until SIGTERM or SIGINT; returns the exit status."""
    die_with_parent(signal.SIGTERM)
    argparse.ArgumentParser(
        prog="opcod worker",
        description="Takes queued runs and trains them, one at a time. Settings come from the environment: OPCOD_HOME, OPCOD_DATABASE_URL, "
        "OPCOD_BROKER_URL, OPCOD_LEASE_SECONDS, OPCOD_DRAIN_SECONDS, "
        "OPCOD_WORKER_LABELS. A worker takes runs for as many GPUs as CUDA_VISIBLE_DEVICES names; give no GPU to two workers.",
    ).parse_args()
    setup_logging.connect(lambda **_: None, weak=False)  # Celery leaves logging as it is
    try:
        settings = read_settings(WorkerSettings)
        configure_logging(settings.log_format, sys.stdout, level=settings.log_level, program="worker", worker=worker_name())
        configure_tracing("worker")
        _work(settings)
    except UserError as error:
        print(f"opcod worker: {error}", file=sys.stderr)
        return 2
    return 0


def _work(settings: WorkerSettings) -> None:
    if not settings.broker_url:
        raise ResourceError(
            "No broker is named.", advice="Set OPCOD_BROKER_URL, such as redis://127.0.0.1:6379/0, or use `opcod up`, which brings one."
        )
    engine = _database(settings)
    name, device = worker_name(), find_device(settings.worker_labels)
    desk = Desk(settings, engine, name, device, partial(live.ring, settings.broker_url))
    celery = make_celery(settings, desk)
    _await_broker(celery)
    connect_signals(desk)
    log.info("worker %s on %s (%s) waits for runs", name, device.name, ", ".join(device.offer.labels))
    warnings.simplefilter("ignore", SecurityWarning)  # against root: messages are JSON, and in a container it is common
    worker = celery.Worker(
        hostname=f"worker@{name}", pool="threads", concurrency=1, loglevel="INFO", quiet=True, without_gossip=True, without_mingle=True
    )
    worker.start()
    desk.farewell()
    log.info("worker %s ended", name)


def _database(settings: WorkerSettings) -> Engine:
    """The database, at its newest schema.

    Raises:
        ResourceError: it does not answer.
    """
    engine = make_engine(settings.database_url)
    try:
        migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        raise ResourceError(
            f"The database {engine.url.render_as_string()} cannot be used: {getattr(error, 'orig', error)}.",
            advice="Start it, or mend OPCOD_DATABASE_URL.",
        ) from None
    return engine


def _await_broker(celery: Celery) -> None:
    """Return once the broker answers.

    Raises:
        ResourceError: it does not answer.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with celery.connection(connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0)
                return
        except (OperationalError, OSError) as error:
            if time.monotonic() > deadline:
                where = celery.connection().as_uri()
                raise ResourceError(f"The broker {where} does not answer: {error}.", advice="Start it, or mend OPCOD_BROKER_URL.") from None
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
