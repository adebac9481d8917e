from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine

from app.db import reading, writing
from app.lifecycle import runs
from app.records.page_queries import RunsFilter, run_head, runs_list
from app.web import shared as module
from app.web.shared import shared, version_of_run, version_of_runs
from tests.unit.app.factories import claimed, queued_run


def listed(engine: Engine) -> list[str]:
    """Statuses as the runs page shows them."""
    with reading(engine) as session:
        shown = shared(session, "runs", version_of_runs(session), lambda: runs_list(session, RunsFilter()))
    return [line.run.status for line in shown.lines]


def test_whatever_happens_shows_at_once(engine: Engine) -> None:
    assert listed(engine) == []
    run_id = queued_run(engine)
    assert listed(engine) == ["queued"]
    claim = claimed(engine)
    with writing(engine) as session:
        runs.mark_running(session, claim)
    assert listed(engine) == ["running"]
    with reading(engine) as session:
        version = version_of_run(session, run_id)
        head = shared(session, run_id, version, lambda: run_head(session, run_id))
    assert head.run.status == "running"


def test_many_at_once_make_it_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    together = threading.Barrier(8)

    def make() -> object:
        made.append(1)
        time.sleep(0.05)  # longer than it takes the others to ask
        return object()

    def ask(found: list[object], version: int) -> None:
        with reading(engine) as session:
            together.wait(timeout=10)
            found.append(shared(session, "key", version, make))

    for version in (1, 2):
        found: list[object] = []
        threads = [threading.Thread(target=ask, args=(found, version)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, found))) == 1
    assert len(made) == 2
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.0)  # the time left changes without an event
    with reading(engine) as session:
        shared(session, "key", 2, make)
    assert len(made) == 3


def test_what_fails_is_tried_again(engine: Engine) -> None:
    def fail() -> None:
        raise KeyError("no run")

    with reading(engine) as session:
        with pytest.raises(KeyError):
            shared(session, "key", 1, fail)
        assert shared(session, "key", 1, lambda: 5) == 5
