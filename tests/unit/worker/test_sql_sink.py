"""The durable sink: order, durability at flush, bounded memory, and what happens when the database or the lease goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from app.db import reading, writing
from app.errors import LeaseLost
from app.lifecycle import runs
from app.lifecycle.runs import Claim
from app.records import ingest
from app.tables import EventRow, MetricRow
from opcod.events import Event, ExchangeRecorded, RoundStarted, StepFinished
from opcod.types import Exchange, Question, Rollout
from worker import sinks
from worker.sinks import DatabaseError, LogSink, SqlSink


def step(seq: int) -> StepFinished:
    return StepFinished(seq=seq, round=1, tutee="student1", step=seq, metrics={"student1/train/loss": float(seq)})


def stored(engine: Engine, run_id: int) -> list[int]:
    with reading(engine) as session:
        query = select(EventRow.seq).where(col(EventRow.run_id) == run_id, col(EventRow.seq).is_not(None)).order_by(col(EventRow.id))
        return [seq for seq in session.exec(query) if seq is not None]


def quiet() -> None:
    """Nobody watches."""


def test_flush_returns_when_everything_so_far_is_committed_in_order(engine: Engine, claim: Claim) -> None:
    with SqlSink(engine, claim.run_id, claim.token, quiet) as sink:
        for seq in range(1, 451):
            sink.emit(step(seq))
        sink.flush()
        assert stored(engine, claim.run_id) == list(range(1, 451))


def test_what_is_left_is_written_on_leaving(engine: Engine, claim: Claim) -> None:
    with SqlSink(engine, claim.run_id, claim.token, quiet) as sink:
        sink.emit(step(1))
    assert stored(engine, claim.run_id) == [1]


def test_an_event_sent_twice_is_stored_once(engine: Engine, claim: Claim) -> None:
    with SqlSink(engine, claim.run_id, claim.token, quiet) as sink:
        for event in (step(1), step(2), step(1), step(2), step(3)):
            sink.emit(event)
    with reading(engine) as session:
        assert [point.value for point in session.exec(select(MetricRow).order_by(col(MetricRow.seq)))] == [1.0, 2.0, 3.0]


def test_watchers_are_told_after_the_commit_and_their_failure_is_no_failure_of_the_run(
    engine: Engine, claim: Claim, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[list[int]] = []

    def broken_bell() -> None:
        seen.append(stored(engine, claim.run_id))
        raise ConnectionError("broker gone")

    with SqlSink(engine, claim.run_id, claim.token, broken_bell) as sink:
        sink.emit(step(1))
        sink.flush()
        sink.emit(step(2))
    assert seen == [[1], [1, 2]]
    assert "broker gone" in caplog.text


def test_an_attempt_that_lost_its_lease_is_told_so_and_stores_nothing(engine: Engine, claim: Claim) -> None:
    with writing(engine) as session:
        runs.release(session, claim)

    def send() -> None:
        with SqlSink(engine, claim.run_id, claim.token, quiet) as sink:
            sink.emit(step(1))
            sink.flush()

    with pytest.raises(LeaseLost):
        send()
    assert stored(engine, claim.run_id) == []


class Outage:
    """A database that does not answer for the first `failures` writes (all of them: None)."""

    def __init__(self, failures: int | None) -> None:
        self.left = failures

    def __call__(self, session: Session, run_id: int, token: int, events: Sequence[Event]) -> int:
        if self.left is None or self.left > 0:
            self.left = None if self.left is None else self.left - 1
            raise OperationalError("INSERT", {}, Exception("connection refused"))
        return real_ingest(session, run_id, token, events)


real_ingest: Callable[..., int] = ingest.ingest


def test_a_short_outage_loses_nothing(engine: Engine, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "ingest", Outage(3))
    with SqlSink(engine, claim.run_id, claim.token, quiet, patience_seconds=10) as sink:
        for seq in (1, 2, 3):
            sink.emit(step(seq))
        sink.flush()
        assert stored(engine, claim.run_id) == [1, 2, 3]


def test_a_long_outage_fails_loudly_at_the_next_event_and_at_flush(engine: Engine, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "ingest", Outage(None))
    refused: list[str] = []

    def send() -> None:
        with SqlSink(engine, claim.run_id, claim.token, quiet, patience_seconds=0.2) as sink:
            sink.emit(step(1))
            for ask in (sink.flush, lambda: sink.emit(step(2))):
                with pytest.raises(DatabaseError, match="connection refused") as told:
                    ask()
                refused.append(told.value.advice)

    with pytest.raises(DatabaseError):
        send()  # leaving says it once more
    assert ["resume" in advice for advice in refused] == [True, True]


def test_a_producer_that_is_too_fast_waits_instead_of_filling_the_memory(
    engine: Engine, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def slow(session: Session, run_id: int, token: int, events: Sequence[Event]) -> int:
        assert gate.wait(20)
        return real_ingest(session, run_id, token, events)

    monkeypatch.setattr(ingest, "ingest", slow)
    monkeypatch.setattr(sinks, "LARGEST_BACKLOG", 10)
    monkeypatch.setattr(sinks, "LARGEST_BATCH", 5)
    emitted: list[int] = []
    with SqlSink(engine, claim.run_id, claim.token, quiet) as sink:

        def produce() -> None:
            for seq in range(1, 101):
                sink.emit(RoundStarted(seq=seq, round=1) if seq == 1 else step(seq))
                emitted.append(seq)

        producer = threading.Thread(target=produce)
        producer.start()
        producer.join(timeout=0.6)
        assert producer.is_alive()
        assert len(emitted) <= 15  # ten wait, five are being written
        gate.set()
        producer.join(timeout=20)
        assert not producer.is_alive()
        sink.flush()
        assert stored(engine, claim.run_id) == list(range(1, 101))


def test_the_log_has_a_line_for_each_step_and_none_of_a_models_text(caplog: pytest.LogCaptureFixture) -> None:
    question = Question(id="q", domain="d", prompt="SECRET PROMPT", answer="1")
    rollout = Rollout(index=0, text="\x1b[31mSECRET ROLLOUT", tokens=3, correct=False, extracted=None, truncated=False)
    exchange = Exchange(
        round=1, step=1, group=0, tutee="student1", tutor=None, question=question, rollout=rollout, own_solution=None,
        feedback=None, teacher_prompt=None, in_loss=False, divergence_mean=None, divergence_max=None,
    )  # fmt: skip
    sink = LogSink()
    with caplog.at_level("INFO"):
        for event in (ExchangeRecorded(seq=1, exchange=exchange), step(2), step(3)):
            sink.emit(event)
    assert "student1 step 3: loss 3.0000" in caplog.text
    assert len(caplog.records) == 2
    assert "SECRET" not in caplog.text
