"""Webhooks against a receiver that listens: what is told, how it is signed, tried again, given up and sent anew."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update
from sqlmodel import col, select

from app.db import now, reading, writing
from app.lifecycle import runs
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from app.webhooks import delivery, registry
from app.webhooks.tables import DeliveryRow, WebhookRow
from opcod.events import GateDecided
from opcod.types import GateDecision
from tests.loops import run
from tests.unit.app.factories import claimed, queued_run, story


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent, and answers as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", outbound_allow=("127.0.0.0/8",), reap_seconds=3600)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url="http://testserver/api/v1") as client:
        yield client


@pytest.fixture
def engine(client: TestClient) -> Engine:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine


def make(client: TestClient, receiver: Receiver, *events: str) -> dict[str, Any]:
    answer = client.post("/webhooks", json={"url": receiver.url, "events": list(events)})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def deliver(engine: Engine, settings: Settings) -> int:
    return run(delivery.deliver, engine, settings)


def hurry(engine: Engine) -> None:
    """Whatever waits for its next try is due."""
    with writing(engine) as session:
        session.exec(update(DeliveryRow).where(col(DeliveryRow.next_try_at).is_not(None)).values(next_try_at=now()))


def test_a_finished_run_is_told_once_signed_and_noted(client: TestClient, engine: Engine, settings: Settings, receiver: Receiver) -> None:
    hook = make(client, receiver, "run.completed")
    make(client, receiver, "run.failed")
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, story())
        runs.finish(session, claim, "completed")
    assert deliver(engine, settings) == 1
    assert deliver(engine, settings) == 0
    ((headers, body),) = receiver.got
    told = json.loads(body)
    assert (told["type"], told["data"]["run"]["id"], told["data"]["run"]["status"]) == ("run.completed", run_id, "completed")
    assert told["data"]["verdict"]["mutual_improvement"] is True
    key = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    (noted,) = client.get(f"/webhooks/{hook['id']}/deliveries").json()["items"]
    assert (noted["event"], noted["tries"], noted["last_status"], noted["next_try_at"]) == ("run.completed", 1, 204, None)
    assert noted["delivered_at"] is not None


def test_what_is_rolled_back_is_not_told(client: TestClient, engine: Engine, settings: Settings, receiver: Receiver) -> None:
    make(client, receiver, "run.failed")
    queued_run(engine)
    claim = claimed(engine)

    def fail_and_fall() -> None:
        with writing(engine) as session:
            runs.finish(session, claim, "failed", error=runs.RunError("data", "broken"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_and_fall()
    assert deliver(engine, settings) == 0


def test_a_gate_is_told_when_it_changes_and_only_then(client: TestClient, engine: Engine, settings: Settings, receiver: Receiver) -> None:
    make(client, receiver, "gate.changed")
    run_id = queued_run(engine)
    claim = claimed(engine)
    domains: list[tuple[str, ...]] = [("facts",), ("facts",), (), ("facts",)]
    for round, allowed in enumerate(domains, start=1):
        event = GateDecided(seq=round, decision=GateDecision(round, "s1", "cognizance", 0.1, 0.2, bool(allowed), allowed))
        for _ in range(2):  # sent again after a lost answer
            with writing(engine) as session:
                ingest(session, run_id, claim.token, [event])
    while deliver(engine, settings):
        pass
    told = sorted((json.loads(body)["data"]["gate"]["round"], json.loads(body)["data"]["gate"]["open"]) for _, body in receiver.got)
    assert told == [(3, False), (4, True)]


def test_a_failed_delivery_is_tried_again_under_the_same_id_then_given_up_and_sent_anew(
    client: TestClient, engine: Engine, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PAUSES", (5.0, 5.0))
    hook = make(client, receiver, "run.failed")
    receiver.answers = [500, 302, 503]
    client.post(f"/webhooks/{hook['id']}:ping")
    assert deliver(engine, settings) == 1
    assert deliver(engine, settings) == 0, "not before its time"
    for _ in range(2):
        hurry(engine)
        assert deliver(engine, settings) == 1
    hurry(engine)
    assert deliver(engine, settings) == 0
    (noted,) = client.get(f"/webhooks/{hook['id']}/deliveries").json()["items"]
    assert (noted["tries"], noted["last_status"], noted["delivered_at"], noted["next_try_at"]) == (3, 503, None, None)
    assert client.get(f"/webhooks/{hook['id']}").json()["failing_since"] is not None
    assert client.post(f"/webhooks/{hook['id']}/deliveries/{noted['id']}:redeliver").status_code == 202
    assert deliver(engine, settings) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert client.get(f"/webhooks/{hook['id']}").json()["failing_since"] is None


def test_of_two_servers_one_sends(client: TestClient, engine: Engine, settings: Settings, receiver: Receiver) -> None:
    hook = make(client, receiver, "run.failed")
    for _ in range(5):
        client.post(f"/webhooks/{hook['id']}:ping")

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(delivery.deliver, engine, settings)

    run(both)
    assert len(receiver.got) == 5


def test_one_that_is_gone_or_fails_for_days_is_turned_off_with_its_reason(
    client: TestClient, engine: Engine, settings: Settings, receiver: Receiver
) -> None:
    gone, failing = make(client, receiver, "run.failed"), make(client, receiver, "run.failed")
    receiver.answers = [410]
    client.post(f"/webhooks/{gone['id']}:ping")
    deliver(engine, settings)
    assert client.get(f"/webhooks/{gone['id']}").json()["disabled_why"] == "It answered 410 Gone."
    assert client.post(f"/webhooks/{gone['id']}:ping").status_code == 409
    with writing(engine) as session:
        session.get_one(WebhookRow, failing["id"]).failing_since = now() - timedelta(days=6)
    receiver.answers = [500]
    client.post(f"/webhooks/{failing['id']}:ping")
    deliver(engine, settings)
    assert "5 days" in client.get(f"/webhooks/{failing['id']}").json()["disabled_why"]
    again = client.patch(f"/webhooks/{failing['id']}", json={"enabled": True}).json()
    assert (again["disabled_at"], again["failing_since"]) == (None, None)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest", "ftp://example.org/", "http://localhost:1/"]
)
def test_addresses_inside_are_refused(tmp_path: Path, url: str) -> None:
    with TestClient(create_app(Settings(home=tmp_path / "home")), base_url="http://testserver/api/v1") as client:
        refused = client.post("/webhooks", json={"url": url, "events": ["run.failed"]})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "url")


def test_the_secret_is_sealed_in_the_database_and_deleting_leaves_nothing(client: TestClient, engine: Engine, receiver: Receiver) -> None:
    hook = make(client, receiver, "run.failed")
    client.post(f"/webhooks/{hook['id']}:ping")
    with reading(engine) as session:
        row = session.exec(select(WebhookRow)).one()
        assert hook["secret"] not in row.sealed_secret
    assert "secret" not in client.get("/webhooks").json()["items"][0]
    assert client.delete(f"/webhooks/{hook['id']}").status_code == 204
    with reading(engine) as session:
        assert session.exec(select(DeliveryRow)).all() == []


def test_the_page_makes_tests_and_deletes(client: TestClient, engine: Engine, receiver: Receiver) -> None:
    site = TestClient(client.app, base_url="http://testserver")
    made = site.post("/settings/webhooks", data={"url": receiver.url, "event": ["run.failed"]})
    assert made.status_code == 201
    assert "whsec_" in made.text
    with reading(engine) as session:
        number = session.exec(select(WebhookRow.id)).one()
    assert "whsec_" not in site.get("/settings/webhooks").text
    assert "A test is on its way" in site.post(f"/settings/webhooks/{number}/ping").text
    assert "It is told nothing now" in site.post(f"/settings/webhooks/{number}/off").text
    assert site.post(f"/settings/webhooks/{number}/ping").status_code == 409
    wrong = site.post("/settings/webhooks", data={"url": "http://10.0.0.1/", "event": ["run.failed"]})
    assert wrong.status_code == 422
    assert site.post("/settings/webhooks", data={"url": receiver.url}).status_code == 422
    assert "No address is told" in site.post(f"/settings/webhooks/{number}/delete").text


def test_nobody_has_webhooks_without_end(client: TestClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MOST", 1)
    make(client, receiver, "run.failed")
    assert client.post("/webhooks", json={"url": receiver.url, "events": ["run.failed"]}).status_code == 409
