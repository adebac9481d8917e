"""An alert stands while what it warns of is so, says its figures, and is quiet in a run that goes well."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from app.db import now, reading, writing
from app.lifecycle import runs
from app.lifecycle.runs import RunError
from app.records.alerts import GIB, alerts
from app.records.chart_shapes import Alert
from app.records.ingest import ingest
from app.records.queries import run_row
from app.tables import WorkerRow
from opcod.events import Event, GateDecided, StepFinished
from opcod.types import GateDecision
from tests.unit.app.factories import claimed, queued_run


@pytest.fixture
def engine(lasting_engine: Engine) -> Engine:
    """One database will do: the queries are plain, and each run is another."""
    return lasting_engine


def steps(metric: str, values: list[float], first: int = 1) -> list[Event]:
    return [
        StepFinished(seq=step, round=1, tutee="s1", step=step, metrics={f"s1/{metric}": value})
        for step, value in enumerate(values, start=first)
    ]


def told(engine: Engine, *batches: list[Event], error: RunError | None = None, memory_gib: float | None = None) -> list[Alert]:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        worker = WorkerRow(name="w1", host="h", pid=1, device="cuda:0", memory_gib=memory_gib, started_at=now(), seen_at=now())
        session.merge(worker)
        for batch in batches:
            ingest(session, run_id, claim.token, batch)
        if error:
            runs.finish(session, claim, "failed", error=error)
    with reading(engine) as session:
        return alerts(session, run_row(session, run_id))


FALLING = [1 - 0.03 * step for step in range(30)]


@pytest.mark.parametrize(
    ("metric", "values", "kind"),
    [
        ("feedback/kept_fraction", [0.75] * 12 + [0.2] * 12, "kept_rate_collapse"),
        ("feedback/kept_fraction", [0.05] * 12, "kept_rate_collapse"),
        ("response/length_mean", [400.0] * 12 + [60.0] * 12, "length_collapse"),
        ("train/entropy", [1.2] * 12 + [0.05] * 12, "entropy_collapse"),
    ],
)
def test_a_collapse_is_told_with_its_figures_and_what_to_try(engine: Engine, metric: str, values: list[float], kind: str) -> None:
    (alert,) = told(engine, steps(metric, values))
    assert (alert.kind, alert.student, alert.metric) == (kind, "s1", f"s1/{metric}")
    assert "s1" in alert.message
    assert alert.advice.count("`") >= 2


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("feedback/kept_fraction", [0.75] * 12 + [0.6] * 12),
        ("feedback/kept_fraction", [0.75, 0.0, 0.0, 0.75, 0.0]),  # too few to say anything
        ("response/length_mean", [400.0] * 12 + [250.0] * 12),
        ("response/length_mean", [400.0] * 12 + [60.0] * 5 + [380.0] * 12),  # over again
        ("train/entropy", FALLING[:20]),
        ("train/loss", [1.0] * 12 + [0.0001] * 12),
    ],
)
def test_what_goes_well_is_not_warned_of(engine: Engine, metric: str, values: list[float]) -> None:
    assert told(engine, steps(metric, values)) == []


def gates(round: int, *opened: bool) -> list[Event]:
    return [
        GateDecided(
            seq=1000 * round + place,
            decision=GateDecision(round, f"s{place}", "cognizance", 0.1 if open else 0.3, 0.2, open, ("facts",) if open else ()),
        )
        for place, open in enumerate(opened, start=1)
    ]


def test_gates_that_are_shut_for_all_are_told_until_one_opens(engine: Engine) -> None:
    (alert,) = told(engine, gates(1, True, False), gates(2, False, False))
    assert alert.kind == "gate_shut_for_all"
    assert "round 2" in alert.message
    assert told(engine, gates(1, False, False), gates(2, True, False)) == []
    assert told(engine, gates(1, False)) == []  # the other student's is not decided yet


def test_memory_is_compared_with_the_worker_s_own(engine: Engine) -> None:
    (alert,) = told(engine, steps("memory/peak_bytes", [70 * GIB, 76 * GIB]), memory_gib=80.0)
    assert alert.kind == "memory_near_limit"
    assert "76.0 of 80.0 GiB" in alert.message


def test_memory_that_nobody_knows_is_no_alert(engine: Engine) -> None:
    assert told(engine, steps("memory/peak_bytes", [76 * GIB])) == []


def test_a_loss_that_is_not_finite_is_told(engine: Engine) -> None:
    (alert,) = told(engine, error=RunError("numerics", "student1's loss is not finite at step 3.", "Lower `optimizer.learning_rate`."))
    assert (alert.kind, alert.advice) == ("loss_not_finite", "Lower `optimizer.learning_rate`.")
