"""Tells workers that a run waits. A message is only a bell: the queue itself is in SQL, so that a lost one costs time and nothing else.

Call `announce` after the transaction that queued the run has committed.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Engine

from app import broker
from app.db import writing
from app.errors import BrokerDown
from app.lifecycle import jobs
from app.lifecycle.runs import mark_announced

logger = logging.getLogger(__name__)

TASK = "worker.run_queued"
"""Takes one argument, the run's id. A worker may take any queued run when it hears it."""
QUEUE = "opcod"
JOB_TASK = "worker.job_queued"
"""The same of a job."""
BELL_SECONDS = 60
"""How long a bell rings on. Unanswered ones vanish, so that they never pile up behind a long run."""


def ring(broker_url: str, key: int, task: str = TASK) -> None:
    """Tell the workers that run `key` waits, or the job of that number.

    Raises:
        BrokerDown: it could not be said. The run stays queued, and `app.sweeper` says it again.
    """
    if not broker_url:
        raise BrokerDown("No broker is configured (OPCOD_BROKER_URL).")
    try:
        broker.client(broker_url).ping()  # Celery would try for seconds
        _sender(broker_url).send_task(task, args=[key], queue=QUEUE, expires=BELL_SECONDS, ignore_result=True, retry=False)
    except (OperationalError, redis.RedisError, OSError) as error:
        raise BrokerDown(f"The broker does not answer: {error}") from error


def announce(engine: Engine, broker_url: str, run_id: int) -> bool:
    """`ring`, and note when; False where the broker is down, which loses nothing."""
    try:
        ring(broker_url, run_id)
    except BrokerDown as error:
        logger.warning("Run %s waits until the broker is back: %s", run_id, error)
        return False
    with writing(engine) as session:
        mark_announced(session, run_id)
    return True


def announce_job(engine: Engine, broker_url: str, job_id: int) -> bool:
    """As `announce`, of a job."""
    try:
        ring(broker_url, job_id, JOB_TASK)
    except BrokerDown as error:
        logger.warning("Job %s waits until the broker is back: %s", job_id, error)
        return False
    with writing(engine) as session:
        jobs.mark_announced(session, job_id)
    return True


@lru_cache(maxsize=4)
def _sender(broker_url: str) -> Celery:
    sender = Celery("opcod", broker=broker_url, set_as_current=False)
    sender.conf.broker_transport_options = {"socket_timeout": 3, "socket_connect_timeout": 3, "max_retries": 1}
    return sender
