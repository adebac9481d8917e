"""Mends what messages and workers leave undone: lapsed leases, and queued runs and jobs that no worker has heard of."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine

from app import live
from app.db import now, reading, writing
from app.lifecycle import jobs, queue, runs
from app.telemetry.health import Pulse
from app.telemetry.metrics import SWEEP, SWEPT


def sweep(engine: Engine, broker_url: str) -> None:
    """One round: reap lapsed leases, then ring for everything that waits unannounced."""
    with writing(engine) as session:
        reaped = runs.reap(session)
        jobs.reap(session)
    for run_id in reaped:
        live.ring(broker_url, run_id)
    with reading(engine) as session:
        long_ago = now() - timedelta(seconds=queue.BELL_SECONDS)
        waiting, waiting_jobs = runs.unannounced(session, long_ago), jobs.unannounced(session, long_ago)
    for run_id in waiting:
        if not queue.announce(engine, broker_url, run_id):
            return  # the broker is down for the others too
    for job_id in waiting_jobs:
        if not queue.announce_job(engine, broker_url, job_id):
            return


def sweep_and_tell(engine: Engine, broker_url: str, pulse: Pulse) -> None:
    """`sweep`, noted where the service's health is read."""
    with SWEEP.time():
        sweep(engine, broker_url)
    pulse.beat()
    SWEPT.set_to_current_time()
