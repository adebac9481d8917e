"""Mends what messages and workers leave undone: lapsed leases, and queued runs and jobs that no worker has heard of."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from anyio import to_thread
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from app import live
from app.db import now, reading, writing
from app.lifecycle import jobs, queue, runs
from app.telemetry.health import Pulse
from app.telemetry.metrics import SWEEP, SWEPT

logger = logging.getLogger(__name__)


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


async def sweep_forever(engine: Engine, broker_url: str, every_seconds: float, pulse: Pulse) -> None:
    """`sweep` in a thread, again and again. A database that is away is waited for."""
    while True:
        try:
            with SWEEP.time():
                await to_thread.run_sync(sweep, engine, broker_url)
            pulse.beat()
            SWEPT.set_to_current_time()
        except OperationalError as error:
            logger.warning("The database does not answer: %s", error.orig)
        await asyncio.sleep(every_seconds)
