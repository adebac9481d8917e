"""The Celery side of a worker: bells, taken one at a time, acknowledged before it runs.

Celery carries doorbells only. An early acknowledgement and a claim in SQL, rather than Celery's own
redelivery, make a training run that outlasts any visibility timeout safe.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

from celery import Celery, signals

from app.lifecycle.queue import JOB_TASK, QUEUE, TASK
from worker.desk import Desk
from worker.settings import WorkerSettings


def make_celery(settings: WorkerSettings, desk: Desk) -> Celery:
    """The application of this worker, with its two tasks."""
    celery = Celery("opcod", broker=settings.broker_url)
    celery.conf.update(
        task_default_queue=QUEUE,
        task_acks_late=False,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a busy worker leaves bells to the idle ones
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    if settings.broker_url.startswith("rediss://"):
        celery.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}

    @celery.task(name=TASK)
    def run_queued(run_id: int) -> None:
        """A run waits. Whichever has waited longest is taken; the id is for the log."""
        logging.getLogger(__name__).info("the bell rang for run %s", run_id)
        desk.serve()

    @celery.task(name=JOB_TASK)
    def job_queued(job_id: int) -> None:
        """A job waits."""
        logging.getLogger(__name__).info("the bell rang for job %s", job_id)
        desk.serve_jobs()

    return celery


def connect_signals(desk: Desk) -> None:
    """Open the desk when the worker is ready, and close it when it is asked to end."""

    def opened(**_: Any) -> None:
        desk.open()

    def closing(**_: Any) -> None:
        desk.close()

    signals.worker_ready.connect(opened, weak=False)
    signals.worker_shutting_down.connect(closing, weak=False)
