"""Which runs a worker takes, and when."""

from __future__ import annotations

import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from app.db import now, reading, writing
from app.lifecycle import runs, workers
from app.lifecycle.queueing import Offer
from app.tables import AttemptRow, RunRow, WorkerRow
from tests.unit.worker.conftest import queue_run
from tests.unit.worker.test_runner import PRELUDE, eventually
from worker.desk import Desk
from worker.runner import Runner
from worker.settings import WorkerSettings
from worker.telemetry import Device

PLAIN = Device("cpu", Offer())


def make_desk(settings: WorkerSettings, engine: Engine, script: Path, name: str = "here", device: Device = PLAIN) -> Desk:
    desk = Desk(settings, engine, name, device, lambda run_id: None)
    desk._runner = Runner(settings, engine, desk._draining, lambda run_id: None, command=(sys.executable, str(script)))
    return desk


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    script = tmp_path / "train.py"
    script.write_text(PRELUDE + "report('completed')")
    return script


def statuses(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return [run.status for run in session.exec(select(RunRow))]


def test_one_bell_serves_the_whole_queue_in_order(settings: WorkerSettings, engine: Engine, quick: Path) -> None:
    ids = [queue_run(engine) for _ in range(3)]
    make_desk(settings, engine, quick).serve()
    assert statuses(engine) == ["completed"] * 3
    with reading(engine) as session:
        assert [attempt.run_id for attempt in session.exec(select(AttemptRow))] == ids


def test_a_second_delivery_does_nothing(settings: WorkerSettings, engine: Engine, quick: Path) -> None:
    queue_run(engine)
    desks = [make_desk(settings, engine, quick, name) for name in ("a", "b")]
    bells = [threading.Thread(target=desk.serve) for desk in desks for _ in range(2)]
    for bell in bells:
        bell.start()
    for bell in bells:
        bell.join(timeout=30)
    assert statuses(engine) == ["completed"]
    with reading(engine) as session:
        assert len(session.exec(select(AttemptRow)).all()) == 1


def test_a_desk_that_closes_takes_nothing_more(settings: WorkerSettings, engine: Engine, quick: Path) -> None:
    queue_run(engine)
    desk = make_desk(settings, engine, quick)
    desk.close()
    desk.serve()
    assert statuses(engine) == ["queued"]


def test_an_idle_desk_serves_a_run_that_nobody_announced(settings: WorkerSettings, engine: Engine, quick: Path) -> None:
    """A lost bell, or a broker that is away for hours."""
    queue_run(engine)
    desk = make_desk(settings, engine, quick)
    desk.open()
    eventually(lambda: statuses(engine) == ["completed"])
    desk.close()


def test_a_desk_that_closes_first_gives_back_what_it_took_unasked(settings: WorkerSettings, engine: Engine, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PRELUDE + "await_stop()\nreport('stopped')")
    queue_run(engine)
    desk = make_desk(settings, engine, script)
    desk.open()
    eventually(lambda: statuses(engine) == ["running"])
    desk.close()
    desk.farewell()
    assert statuses(engine) == ["queued"]


def test_a_lapsed_run_is_queued_again_by_any_worker_that_lives(settings: WorkerSettings, engine: Engine, quick: Path) -> None:
    run_id = queue_run(engine)
    with writing(engine) as session:
        assert runs.claim(session, worker="dead", device="cpu", lease_seconds=0.01) is not None
    desk = make_desk(settings, engine, quick)
    desk.open()
    eventually(lambda: statuses(engine) == ["completed"])
    desk.close()
    assert run_id == 1


def test_a_desk_says_that_it_lives_and_says_farewell(settings: WorkerSettings, engine: Engine, quick: Path) -> None:
    desk = make_desk(settings, engine, quick, "host:1")

    def alive() -> list[str]:
        with reading(engine) as session:
            return [worker.name for worker in workers.alive(session)]

    desk.open()
    eventually(lambda: alive() == ["host:1"])
    desk.close()
    desk.farewell()
    eventually(lambda: alive() == [])


def test_a_worker_that_died_while_its_clock_was_ahead_does_not_count_as_alive(engine: Engine) -> None:
    moment = now()
    seen = {"here": moment, "a little ahead": moment + timedelta(seconds=10), "dead in two hours": moment + timedelta(hours=2)}
    with writing(engine) as session:
        session.add_all([WorkerRow(name=name, host="h", pid=1, device="cpu", started_at=at, seen_at=at) for name, at in seen.items()])
    with reading(engine) as session:
        assert [worker.name for worker in workers.alive(session)] == ["a little ahead", "here"]
