"""Carries out one claimed run: a training process of its own, a lease that is kept up, an ending that is recorded.

The worker never trains itself: out of memory, a crash in native code or a lost lease ends the
training process and leaves the worker whole.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlmodel import Session

from app.artefacts.store import Store, open_store
from app.db import now, writing
from app.errors import LeaseLost
from app.lifecycle import runs
from app.lifecycle.runs import Claim, RunControl, RunError
from app.processes.lifeline import PARENT_VARIABLE
from app.secrets import hub_token
from app.telemetry import tracing
from app.telemetry.structured_logs import log_context
from opcod.errors import KilledError, ResourceError, UserError
from worker.control import DISK_FULL, LOG_DESCRIPTOR, STOP_LINE, WORKER_VARIABLE, Assignment, Report, take_report
from worker.keeper import Keeper
from worker.mirror import Cancelled
from worker.settings import WorkerSettings
from worker.telemetry import worker_name

log = logging.getLogger(__name__)

TRAIN: Sequence[str] = (sys.executable, "-m", "worker.training_process")
LONGEST_SILENCE_SECONDS = 1.0
"""A wish to stop is noticed within this time, however long the lease."""
_POLL_SECONDS = 0.1
_LAST_WORDS_SECONDS = 5.0
_UNAVAILABLE = (OperationalError, InterfaceError)
"""The database does not answer, for now."""


Reason = Literal["stop", "drain", "lease", None]
"""Why the worker wanted an attempt to end: the user's stop, its own shutdown, a lost lease; None: it did not."""
_CAUSES: Mapping[Reason, str] = {
    "stop": "stop requested",
    "drain": "worker shut down",
    "lease": "worker lost the database",
    None: "training process was asked to end",
}
KILLED = KilledError.kind
CRASHED = "internal"


class Work(Protocol):
    """What an attempt is busy with while its lease is kept up."""

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most `seconds`."""

    def ask_to_stop(self) -> None:
        """Ask it to end in order."""

    def kill(self) -> None:
        """End it now."""


class Transfer:
    """Files on their way from or to the store, on a thread; `result` raises what went wrong."""

    def __init__(self, move: Callable[[], None], cancel: Callable[[], None], *, stoppable: bool) -> None:
        self._move, self._cancel, self._stoppable = move, cancel, stoppable
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="transfer", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def ask_to_stop(self) -> None:
        if self._stoppable:
            self._cancel()

    def kill(self) -> None:
        self._cancel()

    def result(self) -> None:
        """Raise what ended the transfer, if anything did.

        Raises:
            UserError: the store or this machine's disk is at fault.
            Cancelled: the worker did not want it to end.
        """
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._move()
        except (UserError, Cancelled) as error:  # all else is ours, and ends in the worker's log
            self._error = error
        except OSError as error:
            self._error = ResourceError(
                f"{error.filename or 'A file'} could not be moved: {error.strerror or error}.",
                advice="Free space on the worker's disk, then resume the run.",
            )


class TrainingProcess:
    """The process that trains one run. What it says goes to `listen`, in parts; it leaves a report."""

    def __init__(
        self, assignment: Assignment, command: Sequence[str], environment: Mapping[str, str], listen: Callable[[bytes], None]
    ) -> None:
        self._folder, self._token = assignment.folder, assignment.token
        self._asked = False
        with _collected(environment) as (collector, place):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=collector,
                env={**os.environ, **environment, **place, PARENT_VARIABLE: str(os.getpid())},
            )
        self._listener = threading.Thread(target=self._follow, args=(listen,), name="log", daemon=True)
        self._listener.start()
        self._tell(assignment.model_dump_json() + "\n")

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ask_to_stop(self) -> None:
        """Ask it to checkpoint and end after its current step."""
        if not self._asked:
            self._asked = True
            self._tell(STOP_LINE)

    def kill(self) -> None:
        """End it and everything that it started, now."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ending(self) -> Report:
        """How it ended, once it has: its report, or what its exit status tells."""
        self.kill()  # what it started may outlive it
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._listener.join(timeout=_LAST_WORDS_SECONDS)  # a process that left the group may hold the pipe still
        return take_report(self._folder, self._token) or _unreported(self._token, self._process.returncode)

    def _follow(self, listen: Callable[[bytes], None]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            while part := os.read(said.fileno(), 65_536):
                listen(part)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; `ending` says how
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


class Runner:
    """Carries out claimed runs, one at a time. `drain` ends the work early and gives the run back."""

    def __init__(
        self,
        settings: WorkerSettings,
        engine: Engine,
        drain: threading.Event,
        changed: Callable[[int], None],
        *,
        command: Sequence[str] = TRAIN,
    ) -> None:
        self._settings, self._engine, self._drain, self._changed, self._command = settings, engine, drain, changed, command
        self._store: Store | None = None

    def carry_out(self, claim: Claim) -> None:
        """Train until the run ends, is stopped, is given back, or is lost; record which. Raises nothing of the run's."""
        facts: dict[str, int] = {"run_id": claim.run_id, "attempt": claim.token}
        if claim.queued_at is not None:
            tracing.past_span("queue", claim.queued_at, now(), claim.traceparent, **facts)
        with log_context(**facts), tracing.span("attempt", claim.traceparent, **facts):
            self._carry_out(claim)

    def _carry_out(self, claim: Claim) -> None:
        self._changed(claim.run_id)
        folder = self._settings.run_folder(claim.folder)
        try:
            self._store = self._store or open_store(self._settings)
            folder.mkdir(parents=True, exist_ok=True)
            keeper = Keeper(self._settings, self._engine, claim, self._store, self._changed)
            if not self._prepare(claim, keeper):
                return
            assignment = Assignment(
                run_id=claim.run_id, token=claim.token, folder=folder, config=claim.config, traceparent=tracing.carried()
            )
            environment = environment_of(self._settings) | hub_token.environment(self._engine, self._settings)
            process = TrainingProcess(assignment, self._command, environment, keeper.log.write)
        except UserError as error:
            self._fail(claim, RunError(error.kind, error.message, error.advice))
            return
        except OSError as error:
            place = error.filename or folder
            self._fail(
                claim,
                RunError(
                    "resource", f"{place} cannot be written: {error.strerror}.", "Free space or mend its permissions, then resume the run."
                ),
            )
            return
        keeper.start()
        try:
            reason = self._attend(claim, process, given_up=lambda: keeper.given_up)
        finally:
            process.kill()
        self._settle(claim, self._conclude(claim, keeper, process.ending(), reason), reason)

    def _prepare(self, claim: Claim, keeper: Keeper) -> bool:
        """Have the run's newest checkpoint here; False where the attempt ended before it began, which is then recorded.

        Raises:
            UserError: the store or the disk is at fault.
        """
        transfer = Transfer(keeper.prepare, keeper.cancel, stoppable=True)
        reason = self._attend(claim, transfer, starting=True)
        try:
            transfer.result()
        except Cancelled:
            self._settle(claim, Report(token=claim.token, outcome="stopped"), reason)
            return False
        return reason != "lease"

    def _conclude(self, claim: Claim, keeper: Keeper, report: Report, reason: Reason) -> Report:
        """Have what the attempt made in the store. Where that fails, the report says so if anything hangs on it."""
        if reason == "lease":
            keeper.cancel()
        transfer = Transfer(lambda: keeper.conclude(completed=report.outcome == "completed"), keeper.cancel, stoppable=False)
        lost = self._attend(claim, transfer, starting=True) == "lease"
        try:
            transfer.result()
        except Cancelled:
            if report.outcome == "completed" or lost:
                return Report(token=claim.token, outcome="lost")  # not durable: it ends once more, here or elsewhere
        except UserError as error:
            log.error("run %s: %s", claim.run_id, error)
            if report.outcome != "failed" and (report.outcome == "completed" or reason != "drain"):
                return Report(token=claim.token, outcome="failed", kind=error.kind, message=error.message, advice=error.advice)
        return report

    def _attend(self, claim: Claim, work: Work, *, starting: bool = False, given_up: Callable[[], bool] = lambda: False) -> Reason:
        """Keep the lease and pass wishes on until the work ends; returns why it ended, as far as we know.

        `starting`: it is not the training itself, and does not make the run `running`.
        """
        renewed = next_renewal = time.monotonic()
        drained_at: float | None = None
        stop_wanted, running = False, starting
        while not work.wait(_POLL_SECONDS):
            moment = time.monotonic()
            if moment >= next_renewal:
                next_renewal = moment + min(claim.lease_seconds / 4, LONGEST_SILENCE_SECONDS)
                control = self._renew(claim, first=not running)
                if control is not None:
                    renewed, running = moment, True
                if (control is not None and not control.ours) or moment - renewed > claim.lease_seconds:
                    log.error("run %s: the lease of attempt %s is lost; what it does is ended", claim.run_id, claim.token)
                    work.kill()
                    return "lease"
                stop_wanted = stop_wanted or (control is not None and control.stop)
            if self._drain.is_set():
                drained_at = drained_at or moment
                if moment - drained_at > self._settings.drain_seconds:
                    log.warning(
                        "run %s: no checkpoint within %.0f s; it goes on from the last one", claim.run_id, self._settings.drain_seconds
                    )
                    work.kill()
            if stop_wanted or self._drain.is_set() or given_up():
                work.ask_to_stop()
        return "stop" if stop_wanted else "drain" if self._drain.is_set() else None

    def _renew(self, claim: Claim, *, first: bool) -> RunControl | None:
        try:
            with writing(self._engine) as session:
                control = runs.renew(session, claim)
                if first and control.ours:
                    runs.mark_running(session, claim)
        except _UNAVAILABLE as error:
            log.warning("run %s: the database does not answer: %s", claim.run_id, error.orig)
            return None
        if first:
            self._changed(claim.run_id)
        return control

    def _settle(self, claim: Claim, report: Report, reason: Reason) -> None:
        """Record how the attempt ended."""
        log.info("run %s: the training process ended: %s %s", claim.run_id, report.outcome, report.message)
        error = RunError(report.kind, report.message.replace("{run}", str(claim.run_id)), report.advice)
        if report.outcome == "completed":
            self._record(claim, lambda session: runs.finish(session, claim, "completed"))
        elif report.outcome == "stopped" and reason == "stop":
            self._record(claim, lambda session: runs.finish(session, claim, "halted"))
        elif report.outcome in ("stopped", "lost") or reason == "lease" or (reason == "drain" and report.kind == KILLED):
            self._record(claim, lambda session: _release(session, claim, _CAUSES[reason]))
        elif report.kind == KILLED:
            self._record(claim, lambda session: _give_back(session, claim, error))
        else:
            self._fail(claim, error)

    def _fail(self, claim: Claim, error: RunError) -> None:
        self._record(claim, lambda session: runs.finish(session, claim, "failed", error=error))

    def _record(self, claim: Claim, change: Callable[[Session], None]) -> None:
        """Make a change in SQL and tell those who watch. Waits for a database that does not answer, within reason.

        Where it stays away nothing is lost: the lease lapses, and the run goes on from its last checkpoint.
        """
        deadline = time.monotonic() + self._settings.patience_seconds
        while True:
            try:
                with writing(self._engine) as session:
                    change(session)
                break
            except LeaseLost as error:
                log.error("%s", error)
                return
            except _UNAVAILABLE as error:
                if time.monotonic() > deadline:
                    log.error("run %s: its state could not be recorded: %s", claim.run_id, error.orig)
                    return
                time.sleep(1.0)
        self._changed(claim.run_id)


@contextmanager
def _collected(environment: Mapping[str, str]) -> Iterator[tuple[Sequence[int], Mapping[str, str]]]:
    """Where logs are collected as JSON, the training process writes there too: our standard output, under another number."""
    if environment.get("OPCOD_LOG_FORMAT") != "json":
        yield (), {}
        return
    collector = os.dup(sys.stdout.fileno())
    try:
        yield (collector,), {LOG_DESCRIPTOR: str(collector)}
    finally:
        os.close(collector)


def _release(session: Session, claim: Claim, cause: str) -> None:
    runs.release(session, claim, cause=cause)


def _give_back(session: Session, claim: Claim, error: RunError) -> None:
    runs.give_back_killed(session, claim, error)


def environment_of(settings: WorkerSettings) -> dict[str, str]:
    """What a worker's child processes are told of its settings."""
    return {
        "OPCOD_HOME": str(settings.home),
        "OPCOD_DATABASE_URL": settings.database_url,
        "OPCOD_BROKER_URL": settings.broker_url,
        "OPCOD_LOG_FORMAT": settings.log_format,
        WORKER_VARIABLE: worker_name(),
    }


def _unreported(token: int, code: int) -> Report:
    """The report of a process that could not leave one."""
    if code == -signal.SIGKILL:
        message = "The training process was killed (SIGKILL) again and again, most often because the machine's memory ran out."
        advice = "Lower compute.micro_batch_tokens or generation.batch_size, or use a larger machine; then resume the run."
        return Report(token=token, outcome="failed", kind=KILLED, message=message, advice=advice)
    if code == DISK_FULL:
        message = "The disk of the worker's machine is full or cannot be written: the training process could not even leave its report."
        advice = "Free space there, then resume the run: it goes on from its last whole checkpoint."
        return Report(token=token, outcome="failed", kind="resource", message=message, advice=advice)
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        message = f"The training process of run {{run}} was ended by {name} again and again."
        return Report(token=token, outcome="failed", kind=KILLED, message=message, advice="The run's log may say why; resume it to go on.")
    return internal_error(token)


def internal_error(token: int) -> Report:
    """A fault of ours: the page says little, the log everything."""
    message = "Something went wrong inside OPCoD Studio while it trained run {run}."
    return Report(
        token=token, outcome="failed", kind=CRASHED, message=message, advice="The end of the run's log has the details; resume it to go on."
    )
