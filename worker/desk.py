"""Takes runs from the queue in SQL, one at a time, and short jobs, when the bell rings and now and then without it."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from app.db import writing
from app.lifecycle import jobs, runs, workers
from app.lifecycle.runs import Claim
from worker.housekeeping import tidy
from worker.job_desk import JobDesk
from worker.runner import Runner
from worker.settings import WorkerSettings
from worker.telemetry import Device

log = logging.getLogger(__name__)


class Desk:
    """`serve` is called by the bell, on the thread that trains; the watch thread looks after everything else.

    The watch says every few seconds that this worker lives, queues runs again whose worker does not, and
    serves runs that wait while it is idle, so that a lost bell, or a broker that is away, costs seconds.
    """

    def __init__(self, settings: WorkerSettings, engine: Engine, name: str, device: Device, changed: Callable[[int], None]) -> None:
        self._settings, self._engine, self._name, self._device, self._changed = settings, engine, name, device, changed
        self._draining = threading.Event()
        self._working = threading.Lock()
        self._run_id: int | None = None
        self._runner = Runner(settings, engine, self._draining, changed)
        self._jobs = JobDesk(settings, engine, name, device, self._draining)
        self._unasked: threading.Thread | None = None
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    def open(self) -> None:
        """Begin to watch."""
        self._tidy()
        self._watcher.start()

    def close(self) -> None:
        """Take no more runs, and give the present one back at its next checkpoint. Safe in a signal handler."""
        self._draining.set()

    def serve(self) -> None:
        """Carry out waiting runs until none is left."""
        with self._working:
            while not self._draining.is_set():
                if not self._jobs.shares:
                    self._jobs.serve()  # somebody waits for them, and they are short
                claim = self._claim()
                if claim is None:
                    return
                self._run_id = claim.run_id
                try:
                    self._runner.carry_out(claim)
                finally:
                    self._run_id = None
                self._tidy()

    def serve_jobs(self) -> None:
        """Carry out waiting jobs: beside the present run where the device is shared, else when it is free."""
        if self._jobs.shares:
            self._jobs.begin()
        else:
            self.serve()

    def farewell(self) -> None:
        """Strike this worker off the list of those that live, once it has ended its work."""
        if self._watcher.is_alive():
            self._watcher.join(timeout=5)
        if self._unasked is not None:
            self._unasked.join()
        self._jobs.join()
        try:
            with writing(self._engine) as session:
                workers.farewell(session, self._name)
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", error)

    def _claim(self) -> Claim | None:
        try:
            with writing(self._engine) as session:
                return runs.claim(
                    session,
                    worker=self._name,
                    device=self._device.name,
                    lease_seconds=self._settings.lease_seconds,
                    offer=self._device.offer,
                )
        except IntegrityError:  # another worker of the same GPU was a moment earlier
            return None
        except SQLAlchemyError as error:
            log.warning("no run could be claimed, the database does not answer: %s", error)
            return None

    def _tidy(self) -> None:
        try:
            tidy(self._settings, self._engine)
        except SQLAlchemyError as error:
            log.warning("working copies were not looked through, the database does not answer: %s", error)

    def _watch(self) -> None:
        while True:
            try:
                self._look()
            except SQLAlchemyError as error:
                log.warning("the database does not answer: %s", error)
            except Exception:  # whatever it is: a worker that watches no more looks dead, and serves nobody
                log.exception("the watch failed, and goes on")
            if self._draining.wait(self._settings.reap_seconds):
                return

    def _look(self) -> None:
        with writing(self._engine) as session:
            workers.heartbeat(
                session,
                self._name,
                host=socket.gethostname(),
                pid=os.getpid(),
                device=self._device.name,
                offer=self._device.offer,
                run_id=self._run_id,
            )
            lapsed = runs.reap(session)
            jobs.reap(session)
            first = runs.next_for(session, self._device.offer)
            job = jobs.next_for(session, self._device.offer)
        for run_id in lapsed:
            self._changed(run_id)
        if job is not None and self._jobs.shares:
            self._jobs.begin()
        if (first is not None or (job is not None and not self._jobs.shares)) and not self._working.locked():
            log.info("%s waits and no bell has rung for it", f"run {first}" if first is not None else f"job {job}")
            self._unasked = threading.Thread(target=self.serve, name="serve", daemon=True)
            self._unasked.start()
