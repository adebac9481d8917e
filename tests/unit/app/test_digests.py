"""Charts of ended runs: worked out once, the same as before, and no longer believed once the run goes on."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, delete
from sqlmodel import col

from app.db import reading, writing
from app.lifecycle import runs
from app.records.comparison import comparison
from app.records.curves import curves
from app.records.digests import digest_next
from app.records.overlays import overlay
from app.records.tallies import histograms, tallies, tallies_by_round
from app.records.windows import CURVE_POINTS, HEAT_POINTS, TALLY_POINTS, Window, grid
from app.tables import MetricRow, StepTallyRow
from opcod.events import EvaluationFinished, StepFinished
from opcod.types import Evaluation
from tests.browser.seeding import Story, end_run, feed, seed_run, start_run

NAME = "student1/train/loss"


def drawn(engine: Engine, run_id: int) -> dict[str, Any]:
    """What charts are drawn from."""
    with reading(engine) as session:
        return {
            "curves": curves(session, run_id, ["student1/*"], Window(points=CURVE_POINTS)),
            "tallies": tallies(session, run_id, Window(points=TALLY_POINTS)),
            "rounds": tallies_by_round(session, run_id, Window()),
            "heat": histograms(session, run_id, "response_tokens", Window(points=HEAT_POINTS)),
            "compared": overlay(session, [run_id], NAME, 10),
        }


def test_the_charts_of_an_ended_run_need_neither_its_points_nor_its_exchanges(engine: Engine) -> None:
    run_id = seed_run(engine, Story(rounds=4))
    going_on = seed_run(engine, Story(rounds=1), ending=None)
    before = drawn(engine, run_id)
    assert before["compared"].width == 4  # summed up of what is kept in entries of one step
    assert digest_next(engine)
    assert not digest_next(engine)  # the other has not ended
    with writing(engine) as session:
        for table in (MetricRow, StepTallyRow):
            session.exec(delete(table).where(col(table.run_id) == run_id))
    after = drawn(engine, run_id)
    assert {name: after[name] for name in before if name != "compared"} == {name: before[name] for name in before if name != "compared"}
    for part in ("mean", "low", "high"):
        assert getattr(after["compared"].runs[0], part) == pytest.approx(getattr(before["compared"].runs[0], part))
    assert drawn(engine, going_on)["curves"].items


def test_a_run_that_goes_on_shows_what_came_since(engine: Engine) -> None:
    claim = start_run(engine, Story())
    feed(engine, claim, [StepFinished(seq=step, round=1, tutee="student1", step=step, metrics={NAME: 1.0}) for step in range(1, 21)])
    with writing(engine) as session:
        runs.finish(session, claim, "failed", error=runs.RunError("internal", "It broke."))
    assert digest_next(engine)

    def shown() -> tuple[int, float | None, int]:
        with reading(engine) as session:
            found = comparison(session, [claim.run_id])
            loss = next((one.values[0] for one in found.numbers if one.key == f"metric/{NAME}"), None)
            scores = sum(score.latest[0] is not None for score in found.scores)
        (curve,) = [one for one in drawn(engine, claim.run_id)["curves"].items if one.name == NAME]
        return len(curve.first), loss, scores

    assert shown() == (20, 1.0, 0)
    with writing(engine) as session:
        runs.request_resume(session, claim.run_id, actor="ada")
        again = runs.claim(session, worker="test:1", device="cpu", lease_seconds=3600, run_id=claim.run_id)
        assert again is not None
    score = EvaluationFinished(seq=22, evaluation=Evaluation(1, "student1", "densities", "validation", 0.5, 0.4, 0.6, 69, 8, 0.09))
    feed(engine, again, [StepFinished(seq=21, round=1, tutee="student1", step=21, metrics={NAME: 3.0}), score])
    assert shown() == (21, 3.0, 1)
    end_run(engine, again, "completed")
    assert shown() == (21, 3.0, 1)
    assert digest_next(engine)
    assert shown() == (21, 3.0, 1)


@pytest.mark.parametrize(("steps", "points", "width"), [(0, 10, 1), (10, 10, 1), (11, 10, 2), (40, 10, 4), (41, 10, 8), (10_000, 1000, 16)])
def test_entries_are_no_more_than_asked_for(steps: int, points: int, width: int) -> None:
    assert grid(steps, points) == width
    assert -(-steps // width) <= points
