"""Everything that a run says, and everything that people name, kept and given back as it was, on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine

from app.db import reading, writing
from app.lifecycle import runs
from app.lifecycle.runs import RunError
from app.lifecycle.workers import heartbeat
from app.records import exports, queries
from app.records.exchange_queries import ExchangeFilters, exchanges
from app.records.ingest import ingest
from app.secrets.redaction import redact
from app.tables import WorkerRow
from opcod.events import ExchangeRecorded
from opcod.types import Exchange, Feedback, Question, Rollout
from tests.hostile import CHARACTERS, PAYLOADS, Payload
from tests.unit.app.factories import claimed, queued_run

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


def hostile_exchange(seq: int, payload: Payload) -> ExchangeRecorded:
    text = payload.text
    question = Question(text, "facts", text, text)
    feedback = Feedback(text, text, "kept", text, text, (text, text))
    rollout = Rollout(0, text, 3, True, text, False)
    return ExchangeRecorded.model_construct(
        kind="exchange_recorded",
        seq=seq,
        at=MOMENT,
        exchange=Exchange(1, seq, 0, "s1", "s2", question, rollout, text, feedback, text, True, 0.1, 0.2),
    )


@pytest.fixture
def run_id(engine: Engine) -> int:
    """A run whose exchanges hold each payload in every text."""
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, [hostile_exchange(seq, payload) for seq, payload in enumerate(PAYLOADS, start=1)])
    return run_id


def test_exchanges_come_back_as_they_were_said(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        found = exchanges(session, run_id, limit=len(PAYLOADS)).items
    for payload, item in zip(PAYLOADS, found, strict=True):
        feedback = item.feedback
        assert feedback is not None
        told = [item.question.prompt, item.question.answer, item.rollout.text, item.rollout.extracted, item.own_solution]
        told += [item.teacher_prompt, feedback.raw, feedback.text, feedback.concept, feedback.matched_word, *feedback.removed]
        assert told == [payload.stored] * 12, payload.name
        assert item.question.id == payload.stored or len(payload.text) > 500
        item.model_dump_json().encode()


def test_exports_hold_the_very_same(engine: Engine, run_id: int) -> None:
    def stream(form: exports.Format) -> bytes:
        batches = exports.exchanges(engine, run_id, ExchangeFilters())
        return b"".join(exports.stream(batches, form, exports.EXCHANGE_FIELDS))

    as_lines = [json.loads(line) for line in stream("jsonl").decode().split("\n") if line]
    as_table = parquet.read_table(pa.BufferReader(stream("parquet"))).to_pylist()
    for payload, line, row in zip(PAYLOADS, as_lines, as_table, strict=True):
        assert line["rollout"]["text"] == line["feedback"]["removed"][1] == payload.stored
        assert row["rollout_text"] == row["feedback_removed"][1] == row["teacher_prompt"] == payload.stored


def test_whatever_is_asked_for_gets_an_answer(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        for payload in PAYLOADS:
            text = payload.text
            filters = ExchangeFilters(question=text, label=text, tutee=text)
            assert exchanges(session, run_id, filters).items == []
            queries.run_list(session, search=text, owner=text, tags=[text])
            queries.metrics(session, run_id, names=[text, f"{text}*"])
        known = next(payload for payload in PAYLOADS if payload.name == "nul")
        assert len(exchanges(session, run_id, ExchangeFilters(question=known.text)).items) == 1


def test_names_owners_causes_and_errors_are_kept(engine: Engine) -> None:
    for payload in CHARACTERS:
        run_id = queued_run(engine)
        with writing(engine) as session:
            runs.change(session, run_id, name=payload.text[:200])
            session.merge(
                WorkerRow(name=payload.text[:100], host=payload.text[:100], pid=1, device="cpu", started_at=MOMENT, seen_at=MOMENT)
            )
        claim = claimed(engine)
        error = RunError("data", payload.text, payload.text)
        with writing(engine) as session:
            runs.finish(session, claim, "failed", error=error)
        with reading(engine) as session:
            run = queries.run(session, run_id)
            latest = queries.transitions(session, run_id, newest_first=True, limit=1).items[0]
        assert run.name == payload.stored[:200]
        assert run.error is not None
        assert len(run.error.message) <= 2_000
        assert latest.cause.startswith(redact(payload.stored)[:100])


def test_a_heartbeat_of_an_odd_worker_is_heard(engine: Engine) -> None:
    for payload in PAYLOADS[:: len(PAYLOADS) // 20]:
        with writing(engine) as session:
            heartbeat(session, payload.text[:100], host=payload.text, pid=1, device=payload.text)
