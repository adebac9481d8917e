"""Pause and stop act within one step and leave a checkpoint; of two people who press at once one is told that it was done."""

from __future__ import annotations

import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from random import Random

import httpx
import pytest
from sqlalchemy.engine import make_url
from sqlmodel import col, select

from app.db import reading
from app.tables import CheckpointRow
from opcod.training.manifest import manifest_paths, read_manifest
from tests.faults.conftest import Reference
from tests.faults.processes import Process
from tests.faults.stage import Stage
from tests.faults.trial import check
from tests.integration.studio import await_value

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

STEP = re.compile(r"student\d step \d+:")


def press_at_once(stage: Stage, run_id: int, wish: str) -> list[httpx.Response]:
    """The answers to two people, the one who had an effect first."""

    def press(_: int) -> httpx.Response:
        return httpx.post(f"{stage.url}/api/v1/runs/{run_id}:{wish}", timeout=120)

    with ThreadPoolExecutor(2) as people:
        return sorted(people.map(press, range(2)), key=lambda answer: answer.status_code)


@contextmanager
def held_still(stage: Stage, process: Process) -> Iterator[None]:
    """Halted between two writes: one that is halted within a write keeps everybody else from SQLite."""

    def halted() -> bool:
        process.signal(signal.SIGSTOP)
        await_value(lambda: process.halted, seconds=300, what="the process's halt")
        if can_be_written(stage):
            return True
        process.signal(signal.SIGCONT)
        return False

    try:
        await_value(halted, seconds=300, what="a moment between two writes")
        yield
    finally:
        process.signal(signal.SIGCONT)


def can_be_written(stage: Stage) -> bool:
    """Whether nobody keeps the write lock of the stage's SQLite file for longer than a write takes."""
    with closing(sqlite3.connect(make_url(stage.database_url).database or "", timeout=1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def steps_made(stage: Stage, run_id: int) -> int:
    """Steps that were made before training was halted.

    The log tells of the last one before its checkpoint is there, but goes through a pipe and the worker, which may be late: it is
    read until nothing more has come for a while. Checkpoints, one after each step, are training's own.
    """
    text, since = "", time.monotonic()
    while time.monotonic() - since < 2:
        before, text = text, str(stage.client.request("GET", f"/runs/{run_id}/logs", params={"limit": 1_000_000})["text"])
        if text != before:
            since = time.monotonic()
        time.sleep(0.2)
    manifests = (read_manifest(path) for path in manifest_paths(stage.run_folder(run_id)))
    newest = next((manifest for manifest in manifests if manifest is not None), None)
    saved = sum(state.steps for state in newest.students.values()) if newest is not None else 0
    return max(saved, len(set(STEP.findall(text))))


def halt(stage: Stage, run_id: int, wish: str, wishing: str, halted: str) -> None:
    """Both press while a step is under way; training is held still meanwhile, so that steps can be counted."""
    (training,) = stage.processes("training")
    with held_still(stage, training):
        done = steps_made(stage, run_id)
        first, second = press_at_once(stage, run_id, wish)
        assert (first.status_code, first.json()["status"]) == (200, wishing)
        assert (second.status_code, second.json()["state"]) == (409, wishing)
        assert wishing in second.json()["detail"]
        await_value(lambda: training.unread > 0, seconds=300, what="the worker's passing on of the wish")
    run = stage.await_run(run_id, lambda run: run.status == halted, f"the run's being {halted}")
    assert sum(run.steps_done.values()) - done in (0, 1)
    with reading(stage.engine) as session:
        rows = select(CheckpointRow).where(CheckpointRow.run_id == run_id).order_by(col(CheckpointRow.seq).desc()).limit(1)
        newest = session.exec(rows).one()
    assert newest.steps == run.steps_done
    assert (stage.run_folder(run_id) / newest.path).is_file()
    assert ends_by_itself(stage, training)


def ends_by_itself(stage: Stage, process: Process) -> bool:
    return await_value(lambda: process not in stage.processes("training"), seconds=300, what="the training process's end")


@pytest.mark.parametrize("stage", ["alone"], indirect=True)
def test_two_people_who_press_at_once_get_one_effect_and_one_refusal_that_names_the_state(stage: Stage, reference: Reference) -> None:
    random = Random(1)
    run_id = stage.launch()
    stage.await_steps(run_id, random.randrange(1, 6), random)
    halt(stage, run_id, "pause", "pausing", "paused")
    first, second = press_at_once(stage, run_id, "resume")
    assert first.status_code == 200
    assert first.json()["status"] in ("queued", "starting")  # an idle worker takes it at once
    assert second.status_code == 409
    assert second.json()["state"] in ("queued", "starting")
    done = sum(stage.run(run_id).steps_done.values())
    stage.await_steps(run_id, done + random.randrange(1, 6), random)
    halt(stage, run_id, "stop", "stopping", "stopped")
    assert [answer.status_code for answer in press_at_once(stage, run_id, "resume")] == [200, 409]
    stage.await_run(run_id, lambda run: run.status == "completed", "the run's end")
    assert check(stage, run_id, reference) == []
    again = ["queued", "starting", "running"]
    wishes = [change.to_status for change in stage.history(run_id)]
    assert wishes == [*again, "pausing", "paused", *again, "stopping", "stopped", *again, "completed"]
