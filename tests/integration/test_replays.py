"""A replay from REST to a worker's process and back, on the demo's own student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlmodel import select

from app.db import reading
from app.main import create_app
from app.settings import Settings
from app.tables import JobRow
from tests.browser.seeding import Story, seed_run
from tests.unit.worker.test_desk import PLAIN
from worker.desk import Desk
from worker.settings import WorkerSettings


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings(home=tmp_path))
    with TestClient(app, base_url="http://testserver/api/v1") as client:
        yield client


def desk_of(client: TestClient, home: Path) -> Desk:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return Desk(WorkerSettings(home=home), engine, "here", PLAIN, lambda run_id: None)


def test_an_exchange_is_replayed_with_other_words(client: TestClient, tmp_path: Path) -> None:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    run_id = seed_run(engine, Story(rounds=1, steps=1))
    exchange = next(one for one in client.get(f"/runs/{run_id}/exchanges?outcome=kept").json()["items"] if one["own_solution"])
    place = f"/exchanges/{exchange['id']}"
    refused = client.post(f"{place}:replay", json={"weights": "checkpoint:99"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "weights")

    asked = client.post(f"{place}:replay", json={"feedback": "iron is 8 .", "own_solution": False, "weights": "initial", "samples": 3})
    assert (asked.status_code, asked.json()["state"]) == (202, "queued")
    desk = desk_of(client, tmp_path)
    desk.serve_jobs()
    desk._jobs.join()
    done = client.get(f"/replays/{asked.json()['id']}").json()
    assert (done["state"], done["error"]) == ("completed", None)
    assert [arm["name"] for arm in done["arms"]] == ["question", "recorded", "edited"]
    assert all(len(arm["answers"]) == 3 and 0 <= arm["low"] <= arm["accuracy"] <= arm["high"] <= 1 for arm in done["arms"])
    assert "iron is 8 ." in done["arms"][2]["prompt"]
    assert exchange["feedback"]["text"] not in done["arms"][2]["prompt"]
    assert done["change"] == pytest.approx(done["arms"][2]["accuracy"] - done["arms"][1]["accuracy"])
    assert client.get(f"{place}/replays").json()["items"] == [done]

    with reading(engine) as session:
        assert [job.kind for job in session.exec(select(JobRow)).all()] == ["replay"]
    again = client.post(f"{place}:replay", json={}).json()
    assert again["asked"]["weights"] == "exported"
    assert client.post(f"/jobs/{again['id']}:cancel").status_code == 204
    assert client.get(f"/replays/{again['id']}").json()["state"] == "cancelled"
    assert client.post(f"/jobs/{again['id']}:cancel").status_code == 409
    desk.close()
    desk.farewell()
