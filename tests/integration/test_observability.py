"""What an operator sees: health with reasons, Prometheus' metrics, request ids."""

from __future__ import annotations

import logging
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, text

from app.db import writing
from app.lifecycle import runs, workers
from app.lifecycle.queueing import Offer
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from tests.integration.service import served
from tests.unit.app.factories import claimed, queued_run, story


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(home=tmp_path / "home"))) as client:
        yield client


@pytest.fixture
def engine(client: TestClient) -> Engine:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine


def scrape(client: TestClient | httpx.Client, path: str = "/metrics") -> dict[tuple[str, ...], float]:
    """(name, label values...) -> value."""
    answer = client.get(path)
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def problems(client: TestClient) -> dict[str, bool]:
    return {problem["code"]: problem["blocking"] for problem in client.get("/api/v1/health/ready").json()["problems"]}


def test_what_is_missing_is_told_by_a_code(client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(client) == {"no_worker": False, "broker_down": False}
    with writing(engine) as session:
        workers.heartbeat(session, "w", host="h", pid=1, device="CPU, 2 cores, 8 GiB")
    assert problems(client) == {"broker_down": False}
    client.app.state.pulse._beat -= 60  # type: ignore[attr-defined]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40, 2**20))
    assert problems(client) == {"broker_down": False, "sweep_stalled": False, "disk_low": False}
    assert client.get("/api/v1/health").status_code == 200


def test_a_schema_of_another_version_is_not_ready(client: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    answer = client.get("/api/v1/health/ready")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert "9999" in answer.json()["reasons"][0]
    assert problems(client)["schema_differs"] is True


def test_a_scrape_tells_the_state_of_runs_queue_and_workers(client: TestClient, engine: Engine) -> None:
    run_id, lost = queued_run(engine), queued_run(engine)
    queued_run(engine)
    claim = claimed(engine, run_id)
    claimed(engine, lost, lease_seconds=-1)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, story())
        workers.heartbeat(session, "a", host="h", pid=1, device="CPU, 2 cores, 8 GiB", run_id=run_id)
        workers.heartbeat(session, "b", host="h", pid=2, device="NVIDIA H100, 80 GiB", offer=Offer(("gpu",), 80.0))
    with writing(engine) as session:
        runs.reap(session)
    found = scrape(client)
    assert found["opcod_runs", "queued"] == 2
    assert found["opcod_runs", "starting"] == 1
    assert found["opcod_runs", "completed"] == 0
    assert found["opcod_queue_length",] == 2
    assert 0 < found["opcod_queue_oldest_wait_seconds",] < 60
    assert found["opcod_attempts", "lapsed"] == 1
    assert found["opcod_attempts", "under way"] == 1
    assert (found["opcod_workers", "cpu"], found["opcod_workers", "gpu"]) == (1, 1)
    assert (found["opcod_workers_busy", "cpu"], found["opcod_workers_busy", "gpu"]) == (1, 0)
    assert found["opcod_run_steps", str(run_id)] == 2
    assert found["opcod_events_total",] >= len(story()) + 6
    assert found["opcod_database_up",] == 1
    assert found["opcod_webhook_deliveries_waiting",] == found["opcod_webhooks_failing",] == 0
    assert found["opcod_sweep_finished_timestamp_seconds",] > 1.7e9
    assert {name for name, *_ in scrape(client, "/api/v1/metrics")} >= {"opcod_runs", "opcod_queue_length"}


def test_requests_are_measured_by_the_template_of_their_route(client: TestClient) -> None:
    before = scrape(client)
    for path in ("/api/v1/runs/1", "/api/v1/runs/2", "/wp-login.php?a=1", "/another/unknown"):
        client.get(path)
    after = scrape(client)

    def count(*labels: str) -> float:
        key = ("opcod_request_seconds_count", *labels)
        return after.get(key, 0) - before.get(key, 0)

    assert count("GET", "/api/v1/runs/{run_id}", "404") == 2
    assert count("GET", "none", "404") == 2  # whatever a stranger asks for makes no new series
    assert not [key for key in after if "wp-login" in " ".join(key)]


def test_a_database_that_is_away_is_told_by_the_scrape(client: TestClient, engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "no-database"
    folder.symlink_to(tmp_path)
    folder.replace(tmp_path / "home" / "opcod.db")  # at once: the service's own threads open it whenever they like
    engine.dispose()
    found = scrape(client)
    assert found["opcod_database_up",] == 0
    assert ("opcod_queue_length",) not in found


def test_open_streams_are_counted(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "home"))
    with served(app) as address, httpx.Client(base_url=address) as client:
        run_id = queued_run(app.state.engine)
        before = scrape(client)["opcod_stream_viewers",]
        with client.stream("GET", f"/api/v1/runs/{run_id}/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            with httpx.Client(base_url=address) as other:
                assert scrape(other)["opcod_stream_viewers",] == before + 1


def test_a_request_is_followed_by_its_id(client: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert client.get("/api/v1/runs", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    made = client.get("/api/v1/runs", headers={"X-Request-ID": "no good\x7f"}).headers["X-Request-ID"]
    assert made.isalnum()
    settings = Settings(home=tmp_path / "second", log_requests=True)
    with TestClient(create_app(settings)) as second, caplog.at_level(logging.INFO, "app.requests"):
        second.get("/api/v1/runs/7")
    assert "GET /api/v1/runs/7 404" in caplog.text
