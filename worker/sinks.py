"""Where a run's events go: in batches into SQL, which is durable, then a doorbell to watchers, which is not; and into the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType

from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from app.db import writing
from app.records import ingest
from app.telemetry.tracing import past_span
from opcod.errors import UserError
from opcod.events import (
    CheckpointSaved,
    EvaluationFinished,
    Event,
    GateDecided,
    PhaseStarted,
    RoundStarted,
    RunFinished,
    RunStarted,
    StepFinished,
)

log = logging.getLogger(__name__)

LARGEST_BATCH = 400
LARGEST_BACKLOG = 2000
"""Events kept in memory; a faster producer waits."""
GATHER_SECONDS = 0.5
"""How long the first event of a batch waits for company: a transaction's own price is then paid by several short steps together."""


class DatabaseError(UserError):
    """The database did not take the run's events for a long time."""

    kind = "database"


class SqlSink:
    """An `EventSink` that writes on a thread of its own, in order.

    A database that does not answer is tried again for `patience_seconds`; then, and when the attempt
    has lost its lease, the error is raised by every later `emit` and `flush`. `after_commit` is told
    after each committed batch; what it raises is logged, and the run goes on.
    """

    def __init__(
        self, engine: Engine, run_id: int, token: int, after_commit: Callable[[], None], *, patience_seconds: float = 60.0
    ) -> None:
        self._engine, self._run_id, self._token = engine, run_id, token
        self._after_commit, self._patience = after_commit, patience_seconds
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._writing = self._closing = self._hurry = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write_all, name="events to SQL", daemon=True)

    def __enter__(self) -> SqlSink:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write what is left. Where the run failed by an error of its own, that error goes first."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def emit(self, event: Event) -> None:
        """Take one event; waits while the backlog is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or len(self._waiting) < LARGEST_BACKLOG)
            self._refuse()
            self._waiting.append(event)
            if len(self._waiting) in (1, LARGEST_BATCH):  # the writer waits for no other: waking it for each would cost both threads
                self._changed.notify_all()

    def flush(self) -> None:
        """Return once every event so far is committed."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._error is not None or not (self._waiting or self._writing))
            self._hurry = False
            self._refuse()

    def _refuse(self) -> None:
        if self._error is not None:
            raise self._error

    def _write_all(self) -> None:
        while batch := self._next_batch():
            try:
                self._write(batch)
            except Exception as error:  # carried to the training thread, which raises it
                with self._changed:
                    self._error, self._writing = error, False
                    self._changed.notify_all()
                return
            with self._changed:
                self._writing = False
                self._changed.notify_all()
            self._ring()

    def _next_batch(self) -> list[Event]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(lambda: self._closing or self._hurry or len(self._waiting) >= LARGEST_BATCH, timeout=GATHER_SECONDS)
            batch = [self._waiting.popleft() for _ in range(min(LARGEST_BATCH, len(self._waiting)))]
            self._writing = bool(batch)
            self._changed.notify_all()
            return batch

    def _write(self, batch: Sequence[Event]) -> None:
        deadline = time.monotonic() + self._patience
        pause = 0.05
        while True:
            try:
                with writing(self._engine) as session:
                    ingest.ingest(session, self._run_id, self._token, batch)
                return
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() + pause > deadline:
                    raise DatabaseError(
                        f"The database did not take the run's events for {self._patience:.0f} s: {str(error.orig).strip()}.",
                        advice="Bring the database back, then resume the run: it goes on from its last checkpoint.",
                    ) from error
                log.warning("the database did not answer, trying again: %s", error.orig)
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _ring(self) -> None:
        try:
            self._after_commit()
        except Exception:  # the live sink: pages catch up from SQL
            log.warning("watchers could not be told of new events", exc_info=True)


class LogSink:
    """A line in the run's log for every event that a reader of logs looks for. No text of a model gets there."""

    def emit(self, event: Event) -> None:
        """Log the event's line, if it has one."""
        line = headline(event)
        if line is not None:
            log.info("%s", line)

    def flush(self) -> None:
        """Nothing is held back."""


class StepSpans:
    """A span for every step, within the attempt's, where runs are traced."""

    def __init__(self, run_id: int, traceparent: str | None) -> None:
        self._run_id, self._traceparent = run_id, traceparent
        self._since: datetime | None = None

    def emit(self, event: Event) -> None:
        """A step lasts from the phase's start, or from the step before it."""
        if isinstance(event, StepFinished):
            facts: dict[str, str | int] = {"run_id": self._run_id, "round": event.round, "step": event.step, "tutee": event.tutee}
            past_span("step", self._since or event.at, event.at, self._traceparent, **facts)
        if isinstance(event, PhaseStarted | StepFinished):
            self._since = event.at

    def flush(self) -> None:
        """Nothing is held back."""


def headline(event: Event) -> str | None:
    """The event in one line; None for those that come by the hundred."""
    match event:
        case RunStarted():
            size = f"{event.rounds} rounds of {event.steps_per_round} steps a student"
            return f"{', '.join(event.students)} on {', '.join(event.domains)}: {size}"
        case RoundStarted():
            return f"round {event.round}"
        case EvaluationFinished(evaluation=found):
            return f"{found.student} on {found.domain} ({found.split}): {found.score:.1%} ({found.low:.1%} to {found.high:.1%})"
        case GateDecided(decision=gate):
            return f"gate of {gate.tutor}: {', '.join(gate.domains) or 'shut'} (gap {gate.gap:.3f}, threshold {gate.threshold:g})"
        case StepFinished():
            loss = event.metrics.get(f"{event.tutee}/train/loss")
            accuracy = event.metrics.get(f"{event.tutee}/train/accuracy")
            told = [f"{name} {value:.4f}" for name, value in (("loss", loss), ("accuracy", accuracy)) if value is not None]
            return f"{event.tutee} step {event.step}: {', '.join(told) or 'done'}"
        case CheckpointSaved():
            return f"checkpoint {event.path}, {event.size_bytes / 1e6:.1f} MB"
        case RunFinished(verdict=verdict):
            return f"finished; mutual Pareto improvement: {({True: 'yes', False: 'no', None: 'not known'})[verdict.mutual_improvement]}"
        case _:
            return None
