"""What an experiment will take, over REST; and what a run took, beside what was expected of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import col, select

from app.db import now, reading, writing
from app.experiments import estimates
from app.lifecycle import runs
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from app.tables import AttemptRow, EstimateRow
from opcod.config import load_preset, merge, parse_config
from opcod.estimation.estimate import shipped
from opcod.events import EvaluationFinished, Event, RoundStarted, RunFinished, RunStarted, StepFinished
from opcod.types import Evaluation, Split, Verdict


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(home=tmp_path / "home")), base_url="http://testserver/api/v1") as client:
        yield client


def events(seconds: float) -> Iterator[Event]:
    """A tiny run that answers as the shipped one did, and takes `seconds` a step."""
    start, means = now(), {one.name: one.means for one in next(run for run in shipped() if run.source == "tiny").students}
    yield RunStarted(
        students=[*means],
        domains=["densities", "protons"],
        rounds=2,
        steps_per_round=3,
        questions={},
        parameters={},
        at=start + timedelta(seconds=4),
    )
    yield from scores(start + timedelta(seconds=5), 0, "test")
    moment = start + timedelta(seconds=5)
    for round in (1, 2):
        yield RoundStarted(round=round, at=moment)
        moment += timedelta(seconds=1)
        yield from scores(moment, round - 1, "validation")
        for step in range(3 * round - 2, 3 * round + 1):
            moment += timedelta(seconds=seconds)
            for name, of in means.items():
                slower = seconds / of["timing_s/step"]
                metrics = {f"{name}/{key}": value * (slower if key.startswith("timing_s/") else 1) for key, value in of.items()}
                yield StepFinished(round=round, tutee=name, step=step, metrics=metrics, at=moment)
    yield from scores(moment + timedelta(seconds=1), 2, "validation")
    yield from scores(moment + timedelta(seconds=2), 2, "test")
    yield RunFinished(verdict=Verdict(True, {}), exports={name: f"exports/{name}" for name in means}, at=moment + timedelta(seconds=3))


def scores(at: Any, round: int, split: Split) -> Iterator[Event]:
    for student in ("student1", "student2"):
        for domain in ("densities", "protons"):
            yield EvaluationFinished(evaluation=Evaluation(round, student, domain, split, 0.5, 0.4, 0.6, 12, 4, 0.1), at=at)


def complete(client: TestClient, run_id: int, seconds: float) -> None:
    """Train the run, in a manner of speaking."""
    engine = client.app.state.engine  # type: ignore[attr-defined]
    with writing(engine) as session:
        claim = runs.claim(session, worker="host:1", device="CPU, 2 cores, 8 GiB", lease_seconds=60, run_id=run_id)
        assert claim is not None
        runs.mark_running(session, claim)
    batch = [event.model_copy(update={"seq": place}) for place, event in enumerate(events(seconds), start=1)]
    with writing(engine) as session:
        ingest(session, run_id, claim.token, batch)
        runs.finish(session, claim, "completed")
        attempt = session.get(AttemptRow, claim.token)
        assert attempt is not None
        taken = (batch[-1].at - batch[0].at).total_seconds() + 5
        session.exec(
            update(AttemptRow).where(col(AttemptRow.id) == claim.token).values(ended_at=attempt.started_at + timedelta(seconds=taken))
        )


def launch(client: TestClient, **overrides: Any) -> int:
    made = client.post("/experiments", json={"preset": "tiny", "config": overrides})
    assert made.status_code == 201, made.text
    return int(client.post(f"/experiments/{made.json()['id']}/runs").json()["id"])


def test_an_estimate_has_figures_with_intervals_and_stores_nothing(client: TestClient) -> None:
    answer = client.post("/experiments:estimate", json={"preset": "tiny"})
    assert answer.status_code == 200
    made = answer.json()
    for name in ("seconds", "memory_bytes", "disk_bytes", "tokens", "training_tokens"):
        figure = made[name]
        assert figure["low"] <= figure["value"] <= figure["high"], name
    assert sum(part["seconds"] for part in made["parts"]) == pytest.approx(made["seconds"]["value"])
    assert client.get("/experiments").json()["items"] == []
    assert client.post("/experiments?dry_run=true", json={"preset": "tiny"}).json()["estimate"] == made


def test_what_does_not_hold_is_not_estimated(client: TestClient) -> None:
    answer = client.post("/experiments:estimate", json={"preset": "tiny", "config": {"schedule": {"rounds": 0}}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "schedule.rounds"


def test_a_run_keeps_what_was_expected_beside_what_it_took(client: TestClient) -> None:
    run_id = launch(client)
    kept = client.get(f"/runs/{run_id}/estimate").json()
    assert kept["predicted"]["seconds"]["value"] > 0
    assert kept["achieved"] is None
    complete(client, run_id, seconds=3.0)
    after = client.get(f"/runs/{run_id}/estimate").json()
    assert after["predicted"] == kept["predicted"]
    achieved = after["achieved"]
    assert achieved["seconds"] == pytest.approx(4 + 1 + 2 + 18 + 3 + 1, abs=1)
    assert achieved["training_tokens"] == pytest.approx(kept["predicted"]["training_tokens"]["value"], rel=0.25)
    assert achieved["memory_bytes"] > 1e8


def test_runs_of_a_device_teach_its_speed(client: TestClient) -> None:
    before = client.post("/experiments:estimate", json={"preset": "tiny"}).json()
    complete(client, launch(client), seconds=10.0)
    after = client.post("/experiments:estimate", json={"preset": "tiny"}).json()
    assert after["basis"]["own_runs"] == 1
    assert after["basis"]["device"] == "CPU, 2 cores, 8 GiB"
    assert after["seconds"]["value"] == pytest.approx(4 + 1 + 2 + 60 + 3, rel=0.25)
    assert after["seconds"]["value"] > before["seconds"]["value"]
    assert after["seconds"]["high"] / after["seconds"]["low"] < before["seconds"]["high"] / before["seconds"]["low"]


def test_a_run_that_was_resumed_teaches_nothing(client: TestClient) -> None:
    run_id = launch(client)
    complete(client, run_id, seconds=3.0)
    engine = client.app.state.engine  # type: ignore[attr-defined]
    with writing(engine) as session:
        session.add(AttemptRow(run_id=run_id, worker="host:2", device="cpu"))
    with reading(engine) as session:
        assert estimates.history(session) == [] or all(run.source != f"run {run_id}" for run in estimates.history(session))


def test_clones_and_points_of_sweeps_are_estimated_too(client: TestClient) -> None:
    run_id = launch(client)
    cloned = client.post(f"/runs/{run_id}:clone", json={}).json()["id"]
    sweep = client.post("/sweeps", json={"name": "s", "preset": "tiny", "grid": {"schedule.rounds": [1, 2]}})
    assert sweep.status_code == 201, sweep.text
    engine = client.app.state.engine  # type: ignore[attr-defined]
    with reading(engine) as session:
        assert {cloned, run_id} < set(session.exec(select(EstimateRow.run_id)).all())
        assert len(session.exec(select(EstimateRow.run_id)).all()) == 4


def test_a_device_is_told_before_any_worker_is_there(client: TestClient) -> None:
    engine = client.app.state.engine  # type: ignore[attr-defined]
    with reading(engine) as session:
        assert estimates.expected_device(session, parse_config(load_preset("tiny"))) == "CPU"
        assert estimates.expected_device(session, parse_config(merge(load_preset("tiny"), {"compute": {"device": "cuda"}}))) == "GPU"
