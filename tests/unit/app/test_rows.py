"""Rows written many at a time are those that SQLAlchemy would have written, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel, col, select

from app.db import reading, writing
from app.rows import add_rows
from app.tables import EventRow, ExchangeRow, FeedbackRow, MetricRow, TokenLensRow
from tests.unit.app.factories import queued_run

TEXT = st.text(alphabet=st.characters() | st.sampled_from("\x00\\\"'%:?{},\n\t\ud800\udfff"), max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=64)
TIME = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]), min_value=datetime(1990, 1, 1))


def stored(engine: Engine, table: type[SQLModel], run_id: int) -> list[dict[str, Any]]:
    with reading(engine) as session:
        rows: Any = table
        found = session.exec(select(table).where(col(rows.run_id) == run_id).order_by(col(rows.seq)))
        return [row.model_dump(exclude={"id", "run_id"}) for row in found if row.seq is not None]  # type: ignore[attr-defined]


def exchange(text: str, number: float, right: bool | None) -> dict[str, Any]:
    return {
        "round": 1, "step": 2, "group": 3, "tutee": text, "tutor": None, "domain": "d", "question_id": "q", "question_prompt": text,
        "question_answer": "", "rollout_index": 0, "rollout_text": text, "rollout_tokens": 2**31 - 1, "correct": bool(right),
        "extracted": None, "truncated": False, "own_solution": text, "teacher_prompt": None, "in_loss": True, "divergence_mean": number,
        "divergence_max": None, "outcome": None, "again_text": text, "again_correct": right, "again_extracted": None, "effect": None,
    }  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])  # runs of their own
@given(text=TEXT, number=NUMBER, right=st.none() | st.booleans(), at=TIME, data=st.binary(max_size=40))
def test_the_same_rows_are_stored_whichever_way(
    engine: Engine, text: str, number: float, right: bool | None, at: datetime, data: bytes
) -> None:
    said = {"raw": text, "text": text, "outcome": "kept", "concept": None, "matched_word": text, "removed": ["(B)", "ü"]}
    facts: dict[type[SQLModel], dict[str, Any]] = {
        EventRow: {"kind": "exchange_recorded", "data": {"round": 1, "tutee": "s1"}, "at": at},
        ExchangeRow: exchange(text, number, right),
        FeedbackRow: said,
        MetricRow: {"name": text, "step": 1, "round": 1, "value": number, "at": at},
        TokenLensRow: {"data": data},
    }
    one_way, other_way = queued_run(engine), queued_run(engine)
    for table, row in facts.items():
        seqs = [2**40, 2**40 + 1]
        with writing(engine) as session:
            add_rows(session, table, [row | {"run_id": one_way, "seq": seq} for seq in seqs])
            session.exec(insert(table), params=[row | {"run_id": other_way, "seq": seq} for seq in seqs])
        written = stored(engine, table, one_way)
        assert len(written) == len(seqs)
        assert written == stored(engine, table, other_way)


def test_text_within_json_is_made_storable_too(engine: Engine) -> None:
    run_id = queued_run(engine)
    row = {"run_id": run_id, "seq": 1, "raw": "", "text": "", "outcome": "kept", "removed": ["nul \x00", "half \ud800"]}
    with writing(engine) as session:
        add_rows(session, FeedbackRow, [row])
    assert [found["removed"] for found in stored(engine, FeedbackRow, run_id)] == [["nul \ufffd", "half \ufffd"]]


def test_a_row_that_breaks_a_rule_is_an_error_of_sqlalchemy_and_takes_the_others_with_it(engine: Engine) -> None:
    run_id = queued_run(engine)
    rows = [{"run_id": run_id, "seq": seq, "data": b"x"} for seq in (1, 2, 1)]
    with pytest.raises(IntegrityError), writing(engine) as session:
        add_rows(session, TokenLensRow, rows)
    assert stored(engine, TokenLensRow, run_id) == []


def test_no_rows_are_no_statement(engine: Engine) -> None:
    with writing(engine) as session:
        add_rows(session, TokenLensRow, [])
