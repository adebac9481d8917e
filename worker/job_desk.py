"""Carries out jobs, each in a process of its own, with a lease that is kept up.

A CPU is shared: there a job runs beside the run that is being trained. A GPU's memory is not, and a run that fails for want of
it costs more than a wait: there jobs are done between runs, before the next one is taken.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from app.db import writing
from app.lifecycle import jobs
from app.lifecycle.jobs import JobClaim, JobLost, Lane
from app.processes.lifeline import PARENT_VARIABLE
from app.secrets import hub_token
from worker.runner import environment_of
from worker.settings import WorkerSettings
from worker.telemetry import Device

log = logging.getLogger(__name__)

JOB: Sequence[str] = (sys.executable, "-m", "worker.job_process")
LONGEST_SECONDS: Mapping[str, float] = {"specialist": 72 * 3600.0}
"""A job that takes longer than its kind may is ended."""
LONGEST_USUALLY = 3600.0
LANES: Sequence[Lane] = ("short", "long")
_POLL_SECONDS = 0.1
_RENEW_SECONDS = 1.0


class JobDesk:
    """Takes waiting jobs, oldest first. `drain` ends the present one; it then waits for another worker."""

    def __init__(
        self, settings: WorkerSettings, engine: Engine, name: str, device: Device, drain: threading.Event, *, command: Sequence[str] = JOB
    ) -> None:
        self._settings, self._engine, self._name, self._offer, self._drain = settings, engine, name, device.offer, drain
        self._command = command
        self._threads: dict[Lane, threading.Thread] = {}
        self._starting = threading.Lock()

    @property
    def shares(self) -> bool:
        """Whether jobs run beside a run."""
        return self._offer.device_key is None

    def begin(self) -> None:
        """Carry out what waits, on threads of its own, and what is short beside what is long; does nothing where that is under way."""
        with self._starting:
            for lane in LANES:
                thread = self._threads.get(lane)
                if (thread is None or not thread.is_alive()) and not self._drain.is_set():
                    self._threads[lane] = threading.Thread(target=self.serve, args=(lane,), name=f"{lane} jobs", daemon=True)
                    self._threads[lane].start()

    def join(self) -> None:
        """Return once nothing is under way; after `drain`."""
        with self._starting:
            for thread in self._threads.values():
                thread.join()

    def serve(self, lane: Lane | None = None) -> None:
        """Carry out waiting jobs, of one lane or of both, until none is left."""
        while not self._drain.is_set():
            claim = self._claim(lane)
            if claim is None:
                return
            self._carry_out(claim)

    def _claim(self, lane: Lane | None) -> JobClaim | None:
        try:
            with writing(self._engine) as session:
                return jobs.claim(session, worker=self._name, lease_seconds=self._settings.lease_seconds, offer=self._offer, lane=lane)
        except SQLAlchemyError as error:
            log.warning("no job could be claimed, the database does not answer: %s", error)
            return None

    def _carry_out(self, claim: JobClaim) -> None:
        log.info("job %s (%s) begins", claim.job_id, claim.kind)
        environment = environment_of(self._settings) | hub_token.environment(self._engine, self._settings)
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, **environment, PARENT_VARIABLE: str(os.getpid())},
            )
        except OSError as error:
            message = f"Its process could not be started: {error}."
            self._settle(claim, lambda session: _fail(session, claim, message))
            return
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as line:
                line.write(json.dumps({"job_id": claim.job_id, "token": claim.token}).encode() + b"\n")
            self._attend(claim, process)
        finally:
            _kill(process)
            shutil.rmtree(self._settings.job_folder(claim.job_id), ignore_errors=True)

    def _attend(self, claim: JobClaim, process: subprocess.Popen[bytes]) -> None:
        """Keep the lease until the process ends; record what it left unrecorded."""
        begun = renewed = time.monotonic()
        longest = LONGEST_SECONDS.get(claim.kind, LONGEST_USUALLY)
        due = begun + _RENEW_SECONDS
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
            moment = time.monotonic()
            if self._drain.is_set():
                _kill(process)
                self._settle(claim, lambda session: jobs.give_back(session, claim, killed=False))
                return
            if moment - begun > longest:
                _kill(process)
                self._settle(claim, lambda session: _fail(session, claim, f"It took longer than {longest / 60:.0f} minutes."))
                return
            if moment >= due:
                due = moment + _RENEW_SECONDS
                held = self._renew(claim)
                renewed = moment if held else renewed
                if held is False or moment - renewed > claim.lease_seconds:
                    log.info("job %s is no longer wanted here", claim.job_id)
                    return
        code = process.returncode
        log.info("job %s: its process ended with %s", claim.job_id, code)
        if code == 0:
            return  # it has recorded how
        if code < 0:
            self._settle(claim, lambda session: jobs.give_back(session, claim, killed=True))
        else:
            self._settle(claim, lambda session: _fail(session, claim, "Something went wrong inside OPCoD Studio."))

    def _renew(self, claim: JobClaim) -> bool | None:
        try:
            with writing(self._engine) as session:
                return jobs.renew(session, claim)
        except SQLAlchemyError as error:
            log.warning("job %s: the database does not answer: %s", claim.job_id, error)
            return None

    def _settle(self, claim: JobClaim, change: Callable[[Session], None]) -> None:
        """Record it. Where the database is away the lease lapses, and the job is tried again."""
        try:
            with writing(self._engine) as session:
                change(session)
        except JobLost:
            log.info("job %s is no longer ours", claim.job_id)
        except SQLAlchemyError as error:
            log.error("job %s: how it ended could not be recorded: %s", claim.job_id, error)


def _fail(session: Session, claim: JobClaim, message: str) -> None:
    jobs.fail(session, claim.job_id, claim.token, kind="internal", message=message, advice="The worker's log has the details.")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
