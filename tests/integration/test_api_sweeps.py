from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import writing
from app.lifecycle import runs
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from tests.integration.service import make_data
from tests.unit.app.factories import claimed, story

GRID = {"method.gate.threshold": [0.1, 0.2], "seed": [0, 1]}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(home=tmp_path / "home")), base_url="http://testserver/api/v1") as client:
        yield client


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return make_data(tmp_path)


@pytest.fixture
def engine(client: TestClient) -> Engine:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine


@pytest.fixture
def sweep(client: TestClient, config: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/sweeps", json={"name": "tau", "config": config, "grid": GRID})
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


def test_every_point_is_an_experiment_with_a_run_in_the_queue(client: TestClient, sweep: dict[str, Any]) -> None:
    assert [point["values"] for point in sweep["points"]] == [
        {"method.gate.threshold": tau, "seed": seed} for tau in (0.1, 0.2) for seed in (0, 1)
    ]
    assert [point["run"]["queue_position"] for point in sweep["points"]] == [1, 2, 3, 4]
    assert {run["sweep_id"] for run in client.get("/runs").json()["items"]} == {sweep["id"]}
    experiment = client.get(f"/experiments/{sweep['points'][3]['experiment_id']}").json()
    assert (experiment["config"]["method"]["gate"]["threshold"], experiment["config"]["seed"]) == (0.2, 1)
    assert experiment["name"] == sweep["points"][3]["run"]["name"] == "tau: threshold=0.2, seed=1"
    assert sweep["progress"] == {
        "points": 4, "waiting": 4, "active": 0, "completed": 0, "failed": 0, "stopped": 0, "deleted": 0, "over": False
    }  # fmt: skip
    listed = client.get("/sweeps").json()["items"]
    assert listed == [{key: value for key, value in sweep.items() if key != "points"}]


def test_it_is_read_as_one_while_its_runs_go_their_ways(client: TestClient, engine: Engine, sweep: dict[str, Any]) -> None:
    first, second = (claimed(engine, point["run"]["id"]) for point in sweep["points"][:2])
    with writing(engine) as session:
        runs.mark_running(session, first)
        ingest(session, first.run_id, first.token, story())
        runs.finish(session, first, "completed")
    with writing(engine) as session:
        runs.finish(session, second, "failed", error=runs.RunError("data", "A line is broken.", "Mend it."))
    client.post(f"/runs/{sweep['points'][2]['run']['id']}:pause")
    progress = client.get(f"/sweeps/{sweep['id']}").json()["progress"]
    assert (progress["completed"], progress["failed"], progress["waiting"], progress["over"]) == (1, 1, 2, False)
    table = client.get(f"/sweeps/{sweep['id']}/table")
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert (rows[0]["method.gate.threshold"], rows[0]["student"], rows[0]["initial"], rows[0]["final"]) == ("0.1", "s1", "0.5", "0.75")
    assert rows[0]["mutual_improvement"] == "true"


def test_stopping_stops_all_that_has_not_ended(client: TestClient, engine: Engine, sweep: dict[str, Any]) -> None:
    held = claimed(engine, sweep["points"][1]["run"]["id"])
    ended = claimed(engine, sweep["points"][0]["run"]["id"])
    with writing(engine) as session:
        runs.finish(session, ended, "failed", error=runs.RunError("data", "x"))
    answer = client.post(f"/sweeps/{sweep['id']}:stop")
    assert [point["run"]["status"] for point in answer.json()["points"]] == ["failed", "stopping", "stopped", "stopped"]
    with writing(engine) as session:
        runs.finish(session, held, "halted")
    again = client.post(f"/sweeps/{sweep['id']}:stop").json()
    assert again["progress"]["over"] is True
    assert client.post("/sweeps/999:stop").status_code == 404


def test_a_dry_run_and_a_faulty_sweep_store_nothing(client: TestClient, config: dict[str, Any]) -> None:
    checked = client.post("/sweeps?dry_run=true", json={"name": "tau", "config": config, "grid": GRID})
    assert checked.status_code == 200
    assert checked.json()["points"][0]["name"] == "tau: threshold=0.1, seed=0"
    faulty = client.post("/sweeps", json={"name": "tau", "config": config, "grid": {"method.gate.threshold": [0.1, -1]}})
    assert faulty.status_code == 422
    assert [error["field"] for error in faulty.json()["errors"]] == ["points.1.method.gate.threshold"]
    assert client.get("/sweeps").json()["items"] == client.get("/experiments").json()["items"] == client.get("/runs").json()["items"] == []


def test_the_same_key_makes_one_sweep(client: TestClient, config: dict[str, Any]) -> None:
    body = {"name": "tau", "config": config, "grid": GRID}
    answers = [client.post("/sweeps", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(client.get("/runs").json()["items"]) == 4


def test_the_papers_ablations_are_listed_and_launched_by_name(client: TestClient) -> None:
    listed = client.get("/ablations").json()["items"]
    assert {"gates", "feedback", "schedule"} <= {one["name"] for one in listed}
    made = client.post("/sweeps", json={"name": "gates", "preset": "tiny", "ablation": "gates"}).json()
    assert [point["values"]["method.gate.strategy"] for point in made["points"]] == ["cognizance", "always", "never", "domain_selective"]
    assert client.get(f"/sweeps/{made['id']}").json()["ablation"] == "gates"
