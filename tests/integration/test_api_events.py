"""The live stream, over a real connection: with a bell, without one, and with one that breaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from sqlalchemy import Engine
from sqlmodel import col, select

from app import live
from app.broker import redis_url
from app.db import make_engine, migrate, reading, writing
from app.errors import BrokerDown
from app.lifecycle import queue, runs
from app.lifecycle.runs import Claim
from app.lifecycle.sweeper import sweep
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from app.tables import RunRow
from opcod.events import RoundStarted, StepFinished
from tests.integration.service import broker, served
from tests.unit.app.factories import claimed, queued_run, story


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with broker(tmp_path_factory.mktemp("broker")) as url:
        yield url


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'opcod.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


class Stream:
    """Reads server-sent events one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def next(self) -> dict[str, Any]:
        message: dict[str, Any] = {}
        for line in self._lines:
            if not line and "event" in message:
                return message
            if ": " in line and not line.startswith(":"):
                name, value = line.split(": ", 1)
                message[name] = json.loads(value) if name == "data" else value
        raise AssertionError("the stream ended")


def watch(url: str, run_id: int, headers: dict[str, str] | None = None, **query: Any) -> Any:
    return httpx.stream("GET", f"{url}/api/v1/runs/{run_id}/events", params=query, headers=headers, timeout=60)


def put(engine: Engine, claim: Claim, *events: Any) -> None:
    with writing(engine) as session:
        ingest(session, claim.run_id, claim.token, events)


def settings(tmp_path: Path, broker_url: str = "") -> Settings:
    return Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path / 'opcod.db'}", broker_url=broker_url)


@pytest.mark.parametrize("rung", [True, False])
def test_a_stream_catches_up_then_follows_with_or_without_a_bell(tmp_path: Path, engine: Engine, bell: str, rung: bool) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    put(engine, claim, *story()[:3])
    with served(create_app(settings(tmp_path, bell if rung else ""))) as url, watch(url, run_id) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        kinds = ["status_changed", "status_changed", "run_started", "evaluation_finished", "round_started"]
        caught_up = [stream.next() for _ in kinds]
        assert [message["event"] for message in caught_up] == kinds
        ids = [int(message["id"]) for message in caught_up]
        assert ids == sorted(set(ids))
        assert caught_up[-1]["data"]["seq"] == 10
        put(engine, claim, StepFinished(seq=40, round=1, tutee="s1", step=1, metrics={"s1/train/loss": 0.5}))
        if rung:
            live.ring(bell, run_id)
        message = stream.next()
        assert (message["event"], message["data"]["seq"], message["data"]["step"]) == ("step_finished", 40, 1)
        assert "metrics" not in message["data"]  # names and numbers only


def test_a_viewer_who_comes_back_gets_what_it_missed_and_nothing_twice(tmp_path: Path, engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    put(engine, claim, *story()[:6])
    with served(create_app(settings(tmp_path))) as url:
        with watch(url, run_id) as response:
            stream = Stream(response)
            seen = [stream.next() for _ in range(4)]
        with watch(url, run_id, {"Last-Event-ID": seen[-1]["id"]}, after=0) as response:
            stream = Stream(response)
            rest = [stream.next() for _ in range(4)]
        with watch(url, run_id, after=seen[-1]["id"], kind="gate_decided") as response:
            assert Stream(response).next()["event"] == "gate_decided"
    seqs = [message["data"]["seq"] for message in seen + rest]
    assert seqs == [None, None, 1, 2, 10, 11, 12, 20]


def test_nothing_falls_between_catching_up_and_following(tmp_path: Path, engine: Engine, bell: str) -> None:
    """A writer that never pauses while viewers come: each sees every event, in order."""
    run_id = queued_run(engine)
    claim = claimed(engine)
    count = 120

    def write() -> None:
        for number in range(count):
            put(engine, claim, RoundStarted(seq=100 + number, round=number))
            live.ring(bell, run_id)

    with served(create_app(settings(tmp_path, bell))) as url:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                with watch(url, run_id, kind="round_started") as response:
                    stream = Stream(response)
                    assert [stream.next()["data"]["seq"] for _ in range(count)] == list(range(100, 100 + count))
        finally:
            writer.join()


def test_a_broker_that_dies_under_a_viewer_makes_it_slower_only(tmp_path: Path, engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with broker(tmp_path) as url:
        app = create_app(settings(tmp_path, url))
        with served(app) as address, watch(address, run_id, kind="round_started") as response:
            stream = Stream(response)
            put(engine, claim, RoundStarted(seq=10, round=1))
            live.ring(url, run_id)
            assert stream.next()["data"]["seq"] == 10
            with redis.Redis.from_url(redis_url(url)) as client:
                client.shutdown(nosave=True)
            put(engine, claim, RoundStarted(seq=20, round=2))
            live.ring(url, run_id)  # into the void, without a complaint
            assert stream.next()["data"]["seq"] == 20


def test_ringing_puts_one_message_for_the_workers(bell: str) -> None:
    queue.ring(bell, 7)
    with redis.Redis.from_url(redis_url(bell)) as client:
        message = json.loads(client.lpop(queue.QUEUE))
    assert message["headers"]["task"] == queue.TASK
    assert message["headers"]["argsrepr"] == "[7]"


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:1/0", "redis+socket:///nowhere/valkey.sock"])
def test_a_broker_that_is_away_leaves_the_run_queued(engine: Engine, url: str) -> None:
    run_id = queued_run(engine)
    with pytest.raises(BrokerDown):
        queue.ring(url, run_id)
    assert queue.announce(engine, url, run_id) is False
    with reading(engine) as session:
        assert session.exec(select(col(RunRow.status))).all() == ["queued"]


def test_the_sweep_rings_for_runs_that_nobody_heard_of(engine: Engine, bell: str) -> None:
    waiting = queued_run(engine)
    lost = claimed(engine, queued_run(engine), lease_seconds=-1)
    with redis.Redis.from_url(redis_url(bell)) as client:
        client.delete(queue.QUEUE)
        for expected in (2, 0):  # told once, not again at the next sweep
            sweep(engine, bell)
            assert client.llen(queue.QUEUE) == expected
            client.delete(queue.QUEUE)
    with reading(engine) as session:
        assert [run.id for run in runs.queued(session)] == [waiting, lost.run_id]
