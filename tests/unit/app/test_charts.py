"""What charts are drawn from: nothing is lost where points are summed up, and exchanges are counted once."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from alembic import command
from sqlalchemy import Engine
from sqlmodel import col, select

from app.db import altering, migration_config, reading, writing
from app.records.curves import curves
from app.records.ingest import ingest
from app.records.queries import metric_names
from app.records.tallies import bin_of, edges, histograms, tallies, tallies_by_round
from app.records.windows import Window
from app.tables import ExchangeRow, StepTallyRow
from opcod.events import Event, RunStarted, StepFinished
from tests.browser.seeding import Story, events
from tests.unit.app.factories import claimed, exchange, queued_run


def stored(engine: Engine, batch: list[Event]) -> int:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, batch)
    return run_id


def walk(steps: int, outlier: int) -> list[Event]:
    values = [100.0 if step == outlier else 1 / step for step in range(1, steps + 1)]
    return [
        StepFinished(seq=step, round=1, tutee="s1", step=step, metrics={"s1/train/loss": value, "s1/train/entropy": 1.0})
        for step, value in enumerate(values, start=1)
    ]


def test_a_summed_up_curve_keeps_every_extreme(engine: Engine) -> None:
    run_id = stored(engine, walk(1000, outlier=777))
    with reading(engine) as session:
        assert metric_names(session, run_id) == ["s1/train/entropy", "s1/train/loss"]
        found = curves(session, run_id, ["s1/train/l*"], Window(points=50))
        (curve,) = found.items
        assert 20 <= len(curve.first) <= 51
        assert sum(curve.count) == 1000
        assert max(curve.high) == 100.0
        assert min(curve.low) == pytest.approx(1 / 1000)
        assert sum(mean * count for mean, count in zip(curve.mean, curve.count, strict=True)) == pytest.approx(
            100 - 1 / 777 + sum(1 / step for step in range(1, 1001))
        )
        tail = curves(session, run_id, ["s1/train/loss"], Window(first=curve.first[-3] + 1, width=found.width)).items[0]
        assert (tail.first, tail.mean, tail.count) == (curve.first[-3:], curve.mean[-3:], curve.count[-3:])  # whole entries, as they were
        part = curves(session, run_id, ["s1/train/loss"], Window(first=770, last=780, points=50))
        assert part.width == 1
        assert part.items[0].first == list(range(770, 781))
        assert part.items[0].mean[7] == 100.0


def test_exchanges_are_counted_once_however_they_arrive(engine: Engine) -> None:
    story = Story(rounds=2, steps=3, shut_in_round=2)
    batch = list(events(story))
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    chance = random.Random(5)
    for begin in range(0, len(batch), 13):
        with writing(engine) as session:
            ingest(session, run_id, claim.token, batch[max(0, begin - chance.randint(0, 9)) : begin + 13])
    with reading(engine) as session:
        rows = session.exec(select(ExchangeRow)).all()
        by_step = tallies(session, run_id, Window()).items
        by_round = tallies_by_round(session, run_id, Window()).items
        lengths = histograms(session, run_id, "response_tokens", Window()).items
        late = tallies(session, run_id, Window(first=4, width=2), "student2").items
    for student in story.students:
        for step in range(1, 7):
            mine = [row for row in rows if (row.tutee, row.step) == (student, step)]
            (tally,) = [item for item in by_step if (item.student, item.first) == (student, step)]
            assert (tally.rollouts, tally.correct) == (len(mine), sum(row.correct for row in mine))
            assert tally.tokens == sum(row.rollout_tokens for row in mine)
            assert tally.outcomes == Counter(row.outcome for row in mine if row.outcome)
            assert tally.tokens_before == sum(row.rollout_tokens for row in rows if row.tutee == student and row.step < step)
    assert [(item.student, item.first, item.last, item.first_round) for item in by_round] == [
        ("student1", 1, 3, 1),
        ("student1", 4, 6, 2),
        ("student2", 1, 3, 1),
        ("student2", 4, 6, 2),
    ]
    assert sum(one.count for item in lengths for one in item.bins) == len(rows)
    assert all(one.low <= 24 < one.high for item in lengths for one in item.bins)
    assert {item.student for item in late} == {"student2"}
    assert late[0].tokens_before == sum(row.rollout_tokens for row in rows if row.tutee == "student2" and row.step < 4)


@pytest.mark.parametrize("value", [0, 1, 1.19, 24, 4096, 0.0012])
def test_a_value_lies_within_its_bin(value: float) -> None:
    low, high = edges(bin_of(value))
    assert low <= value < high or value == low == high == 0


def test_what_an_earlier_version_recorded_is_counted_when_it_is_brought_up_to_date(engine: Engine) -> None:
    started = RunStarted(seq=0, students=["s1", "s2"], domains=["facts"], rounds=1, steps_per_round=3, questions={}, parameters={})
    recorded = [exchange(10 * step + index, step=step, index=index, feedback=step > 1) for step in (1, 2, 3) for index in range(4)]
    stored(engine, [started, *recorded])
    with reading(engine) as session:
        counted = [row.model_dump() for row in session.exec(select(StepTallyRow).order_by(col(StepTallyRow.step))).all()]
    assert [(row["rollouts"], row["kept"]) for row in counted] == [(4, 0), (4, 2), (4, 2)]
    with altering(engine) as connection:
        command.downgrade(migration_config(connection), "0010")
        command.upgrade(migration_config(connection), "head")
    with reading(engine) as session:
        assert [row.model_dump() for row in session.exec(select(StepTallyRow).order_by(col(StepTallyRow.step))).all()] == counted
