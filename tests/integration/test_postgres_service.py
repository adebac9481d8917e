"""The whole way over REST, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.db import writing
from app.lifecycle import runs
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from tests.integration.service import make_data
from tests.stores import PostgresUnavailableError, postgres_server
from tests.unit.app.factories import claimed, story


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    try:
        server = postgres_server()
        folder = server.__enter__()
    except PostgresUnavailableError as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    settings = Settings(home=tmp_path / "home", database_url=f"postgresql://opcod@/postgres?host={folder}")
    with TestClient(create_app(settings), base_url="http://testserver/api/v1") as client:
        yield client
    server.__exit__(None, None, None)


def test_from_experiment_to_verdict(client: TestClient, tmp_path: Path) -> None:
    body = {"config": make_data(tmp_path)}
    experiment = client.post("/experiments", json=body, headers={"Idempotency-Key": "k"}).json()
    assert client.post("/experiments", json=body, headers={"Idempotency-Key": "k"}).json() == experiment
    run_id = client.post(f"/experiments/{experiment['id']}/runs").json()["id"]
    assert client.post(f"/runs/{run_id}:stop").json()["status"] == "stopped"
    assert client.post(f"/runs/{run_id}:resume").json()["status"] == "queued"
    engine = client.app.state.engine  # type: ignore[attr-defined]
    claim = claimed(engine)
    for _ in range(2):
        with writing(engine) as session:
            ingest(session, run_id, claim.token, story())
    with writing(engine) as session:
        runs.finish(session, claim, "completed")
    run = client.get(f"/runs/{run_id}").json()
    assert (run["status"], run["progress"]["fraction"], run["verdict"]["mutual_improvement"]) == ("completed", 1.0, True)
    assert len(client.get(f"/runs/{run_id}/metrics?name=s1/*").json()["items"]) == 7
    exchanges = client.get(f"/runs/{run_id}/exchanges?outcome=kept&limit=1").json()
    assert exchanges["next_cursor"] is not None
    assert len(client.get(f"/exchanges/{exchanges['items'][0]['id']}").json()["siblings"]) == 4
    assert len(client.get("/students").json()["items"]) == 3
    assert client.get("/runs?search=LETT").json()["items"][0]["id"] == run_id
