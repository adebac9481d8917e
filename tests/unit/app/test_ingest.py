from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func
from sqlmodel import col, select

from app.db import reading, writing
from app.errors import LeaseLost
from app.records import exchange_queries, queries
from app.records.ingest import ingest
from app.tables import (
    BreakRescueRow,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    ExchangeRow,
    FeedbackRow,
    GateDecisionRow,
    MetricRow,
    PhaseRow,
    RoundRow,
    RunRow,
    StepRow,
    StudentRow,
    TokenLensRow,
)
from opcod.events import Event, RunStarted, StepFinished
from tests.unit.app.factories import claimed, exchange, queued_run, story

FACTS = [
    BreakRescueRow,
    CheckpointRow,
    EvaluationRow,
    ExchangeRow,
    FeedbackRow,
    GateDecisionRow,
    MetricRow,
    PhaseRow,
    RoundRow,
    StepRow,
    TokenLensRow,
]


def put(engine: Engine, run_id: int, token: int, events: list[Event]) -> int:
    with writing(engine) as session:
        return ingest(session, run_id, token, events)


def counts(engine: Engine, run_id: int) -> dict[str, int]:
    with reading(engine) as session:
        found = {}
        for table in FACTS:
            columns = table.__table__.c  # type: ignore[attr-defined]
            found[table.__name__] = session.exec(select(func.count()).select_from(table).where(columns.run_id == run_id)).one()
        return found


def test_a_run_told_twice_is_stored_once(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    assert put(engine, run_id, claim.token, story()) == len(story())
    once = counts(engine, run_id)
    assert once == {
        "BreakRescueRow": 1,
        "CheckpointRow": 1,
        "EvaluationRow": 4,
        "ExchangeRow": 4,
        "FeedbackRow": 4,
        "GateDecisionRow": 1,
        "MetricRow": 9,
        "PhaseRow": 1,
        "RoundRow": 1,
        "StepRow": 2,
        "TokenLensRow": 2,
    }
    assert put(engine, run_id, claim.token, story()) == 0
    assert put(engine, run_id, claim.token, [*story()[5:12], exchange(95)]) == 1
    assert counts(engine, run_id)["ExchangeRow"] == 5


def test_one_number_twice_in_a_batch_is_one_event(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    assert put(engine, run_id, claim.token, [exchange(5), exchange(5)]) == 1
    assert counts(engine, run_id)["ExchangeRow"] == 1


def test_a_wrong_token_stores_nothing(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    for token in (claim.token + 1, 0):
        with pytest.raises(LeaseLost):
            put(engine, run_id, token, story())
    assert set(counts(engine, run_id).values()) == {0}
    with reading(engine) as session:
        assert session.exec(select(func.count()).select_from(EventRow).where(col(EventRow.seq).is_not(None))).one() == 0


def test_a_batch_is_stored_whole_or_not_at_all(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    clash = StepFinished(seq=51, round=1, tutee="s1", step=2, metrics={"s1/train/loss": 0.1})  # that step, under another number
    with pytest.raises(Exception, match=r"(?i)unique"):
        put(engine, run_id, claim.token, [*story(), clash])
    assert set(counts(engine, run_id).values()) == {0}


def test_evaluations_and_gates_become_curves(engine: Engine) -> None:
    run_id = queued_run(engine)
    put(engine, run_id, claimed(engine).token, story())
    with reading(engine) as session:
        points = [(point.name, point.step, point.value) for point in queries.metrics(session, run_id).items]
    assert points == [
        ("s1/test/facts/avg@16", 0, 0.5),
        ("s1/eval/facts/avg@16", 0, 0.4),
        ("s2/gate/gap", 0, 0.1),
        ("s2/gate/open", 0, 1.0),
        ("s1/train/loss", 1, 0.5),
        ("s1/train/entropy", 1, 1.5),
        ("s1/train/loss", 2, 0.4),
        ("s1/eval/facts/avg@16", 3, 0.6),
        ("s1/test/facts/avg@16", 6, 0.75),
    ]


def test_the_run_row_tells_how_far_it_is(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    events = story()
    put(engine, run_id, claim.token, events[:12])
    with reading(engine) as session:
        run = queries.run(session, run_id)
    assert (run.progress.round, run.progress.rounds, run.progress.phase) == (1, 2, "s1")
    assert (run.progress.step, run.progress.steps, run.progress.fraction) == (2, 12, 2 / 12)
    assert run.students[1].gap == 0.1
    assert run.students[1].cognizant is True
    assert (run.students[0].gap, run.students[0].cognizant) == (None, None)
    assert run.verdict.model_dump() == {"mutual_improvement": None, "students": {"s1": None, "s2": None}}
    scores = run.students[0].scores
    assert (scores.initial, scores.latest, scores.final) == ({"facts": 0.5}, {"facts": 0.4}, None)
    put(engine, run_id, claim.token, events[12:])
    with reading(engine) as session:
        run = queries.run(session, run_id)
    assert run.verdict.model_dump() == {"mutual_improvement": True, "students": {"s1": True, "s2": True}}
    scores = run.students[0].scores
    assert (scores.initial, scores.latest, scores.final) == ({"facts": 0.5}, {"facts": 0.75}, {"facts": 0.75})
    assert scores.validation.model_dump() == {"initial": {"facts": 0.4}, "latest": {"facts": 0.6}}
    with reading(engine) as session:
        student = session.exec(select(StudentRow)).one()
        row = session.get(RunRow, run_id)
        assert row is not None
        assert student.model == f"{row.folder}/export/s1"


def test_text_that_no_database_takes_is_stored_all_the_same(engine: Engine) -> None:
    run_id = queued_run(engine)
    put(engine, run_id, claimed(engine).token, [exchange(5, text="nul \x00, half \ud800 a pair, whole \U0001f600, <script>")])
    with reading(engine) as session:
        text = exchange_queries.exchanges(session, run_id).items[0].rollout.text
    assert text == "nul \ufffd, half \ufffd a pair, whole \U0001f600, <script>"


@settings(max_examples=30)
@given(cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8))
def test_any_replay_ends_in_the_same_rows_and_progress_never_goes_back(lasting_engine: Engine, cuts: list[tuple[int, int]]) -> None:
    """Batches that overlap, repeat and go back, as retries and resumes send them, then the whole."""
    engine = lasting_engine
    run_id = queued_run(engine)
    token = claimed(engine, run_id).token
    steps = [StepFinished(seq=100 + 10 * i, round=1, tutee="s1", step=i, metrics={"s1/train/loss": 1 / i}) for i in range(1, 40)]
    first = RunStarted(seq=1, students=["s1", "s2"], domains=["facts"], rounds=1, steps_per_round=40, questions={}, parameters={})
    events: list[Event] = [first, *steps]
    known: set[int] = set()
    fraction = 0.0
    for low, high in [*cuts, (0, 40)]:
        batch = events[low:high]
        assert put(engine, run_id, token, batch) == len({event.seq for event in batch} - known)
        known |= {event.seq for event in batch}
        with reading(engine) as session:
            progress = queries.run(session, run_id).progress
        if 1 in known:
            assert progress.fraction >= fraction
            fraction = progress.fraction
    assert fraction == 39 / 80
    assert counts(engine, run_id)["MetricRow"] == 39
