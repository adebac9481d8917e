"""Runs whose artefacts live in S3: dropped by one machine and taken up by another, and a store that is away for a while."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from app.artefacts import logs
from app.artefacts.store import Store, open_store
from app.db import reading, writing
from app.lifecycle import retention, runs
from app.lifecycle.runs import Claim
from app.records import ingest, notices
from app.tables import CheckpointRow, NoticeRow, RunRow
from opcod.events import CheckpointSaved
from opcod.training.manifest import manifest_name
from tests.s3 import S3, s3_server
from tests.unit.worker.checkpoint_files import newest_whole
from tests.unit.worker.conftest import queue_run, take
from tests.unit.worker.test_runner import PRELUDE, eventually
from worker.housekeeping import tidy
from worker.runner import Runner
from worker.settings import WorkerSettings

SCRIPT = (
    PRELUDE
    + f"sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
    + """
from tests.unit.worker.checkpoint_files import newest_whole, write_checkpoint
folder = assignment.folder
print("going on from", newest_whole(folder), flush=True)
def proceed():  # as long as the test wants
    while not (folder / "go").exists() and not stop.requested():
        time.sleep(0.01)
    return not stop.requested()
"""
)
TRAIN_ALL = """
start = newest_whole(folder) or 0
for seq in (10, 20, 30):
    if seq > start:
        write_checkpoint(folder, seq)
        if seq == 20 and not proceed():
            report("stopped")
            raise SystemExit
(folder / "exports" / "ann").mkdir(parents=True, exist_ok=True)
(folder / "exports" / "ann" / "config.json").write_text("{}")
report("completed")
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


class Machine:
    """A worker's machine with its own home; all share the database and the store."""

    def __init__(self, settings: WorkerSettings, engine: Engine, home: Path, script: str = TRAIN_ALL) -> None:
        self.settings = settings.model_copy(update={"home": home})
        self.engine, self.drain = engine, threading.Event()
        home.mkdir(exist_ok=True)
        path = home / "train.py"
        path.write_text(SCRIPT + script, encoding="utf-8")
        self._runner = Runner(self.settings, engine, self.drain, lambda run_id: None, command=(sys.executable, str(path)))

    def start(self) -> tuple[Claim, threading.Thread]:
        claim = take(self.engine, worker=self.settings.home.name, lease_seconds=4)
        assert claim is not None
        thread = threading.Thread(target=self._runner.carry_out, args=(claim,), daemon=True)
        thread.start()
        return claim, thread

    def folder(self, claim: Claim) -> Path:
        return self.settings.run_folder(claim.folder)


def finish(thread: threading.Thread) -> None:
    thread.join(timeout=120)
    assert not thread.is_alive()


@pytest.fixture
def settings(settings: WorkerSettings, s3: S3) -> WorkerSettings:
    return settings.model_copy(update={"store_url": s3.bucket(), "ship_seconds": 0.05, "store_patience_seconds": 30.0})


@pytest.fixture
def store(settings: WorkerSettings) -> Store:
    return open_store(settings)


@pytest.fixture
def run_id(engine: Engine) -> int:
    return queue_run(engine)


def the_run(engine: Engine, run_id: int) -> RunRow:
    with reading(engine) as session:
        return session.get_one(RunRow, run_id)


def standing(engine: Engine, run_id: int) -> list[str]:
    with reading(engine) as session:
        return [notice.kind for notice in notices.of_run(session, run_id, standing_only=True)]


def test_a_run_that_one_machine_gave_back_goes_on_elsewhere_and_all_of_it_is_in_the_store(
    settings: WorkerSettings, engine: Engine, store: Store, run_id: int, tmp_path: Path
) -> None:
    one, two = Machine(settings, engine, tmp_path / "one"), Machine(settings, engine, tmp_path / "two")
    claim, thread = one.start()
    eventually(lambda: f"checkpoints/{manifest_name(20)}" in store.sizes(claim.folder))
    with writing(engine) as session:
        saved = [CheckpointSaved(seq=seq, round=1, steps={}, path=f"checkpoints/{manifest_name(seq)}", size_bytes=1) for seq in (10, 20)]
        ingest.ingest(session, run_id, claim.token, saved)
    one.drain.set()
    finish(thread)
    assert the_run(engine, run_id).status == "queued"
    claim, thread = two.start()
    eventually(lambda: two.folder(claim).exists())
    (two.folder(claim) / "go").write_text("")
    finish(thread)
    run = the_run(engine, run_id)
    assert run.status == "completed"
    log = logs.read(store, claim.folder, after=0, limit=100_000).text
    assert "going on from None" in log
    assert "going on from 20" in log
    assert log.index("claimed by one") < log.index("claimed by two")
    held = store.sizes(claim.folder)
    assert "exports/ann/config.json" in held
    assert run.size_bytes == sum(held.values())
    with reading(engine) as session:
        states = dict(session.exec(select(CheckpointRow.seq, CheckpointRow.state)).all())
    assert states[20] == "whole"


def test_a_worker_killed_hard_costs_at_most_what_was_not_uploaded(
    settings: WorkerSettings, engine: Engine, store: Store, run_id: int, tmp_path: Path
) -> None:
    """The first machine is gone without a word, in the middle of an upload; its lease lapses."""
    one, two = Machine(settings, engine, tmp_path / "one", "write_checkpoint(folder, 10)\ntime.sleep(600)"), None
    claim, _ = one.start()
    eventually(lambda: f"checkpoints/{manifest_name(10)}" in store.sizes(claim.folder))
    store.put_bytes(b"the first file of the next checkpoint", f"{claim.folder}/checkpoints/ann-000020/optimizer.safetensors")
    with writing(engine) as session:  # the claim is taken from the first machine, which then kills its own training
        session.get_one(RunRow, run_id).attempt_id = None
        session.get_one(RunRow, run_id).status = "queued"
    two = Machine(settings, engine, tmp_path / "two")
    claim, thread = two.start()
    eventually(lambda: two.folder(claim).exists())
    (two.folder(claim) / "go").write_text("")
    finish(thread)
    assert the_run(engine, run_id).status == "completed"
    assert "going on from 10" in logs.read(store, claim.folder, after=0, limit=100_000).text


def test_a_store_that_is_away_for_a_while_holds_nothing_up_and_is_said_on_the_page(
    settings: WorkerSettings, engine: Engine, s3: S3, store: Store, run_id: int, tmp_path: Path
) -> None:
    one = Machine(settings, engine, tmp_path / "one")
    claim, thread = one.start()
    eventually(lambda: newest_whole(one.folder(claim)) == 20)
    with s3.refusing():
        (one.folder(claim) / "go").write_text("")
        eventually(lambda: newest_whole(one.folder(claim)) == 30)
        eventually(lambda: standing(engine, run_id) == ["store"])
    finish(thread)
    assert the_run(engine, run_id).status == "completed"
    assert standing(engine, run_id) == []
    assert f"checkpoints/{manifest_name(30)}" in store.sizes(claim.folder)


def test_a_run_that_cannot_be_made_durable_fails_loudly_and_can_be_resumed(
    settings: WorkerSettings, engine: Engine, s3: S3, store: Store, run_id: int, tmp_path: Path
) -> None:
    one = Machine(settings.model_copy(update={"store_patience_seconds": 0.5}), engine, tmp_path / "one")
    claim, thread = one.start()
    eventually(lambda: newest_whole(one.folder(claim)) == 20)
    with s3.refusing():
        (one.folder(claim) / "go").write_text("")
        finish(thread)
    run = the_run(engine, run_id)
    assert (run.status, run.error_kind) == ("failed", "store")
    assert "OPCOD_STORE_URL" in (run.error_advice or "")
    with writing(engine) as session:
        runs.request_resume(session, run_id)
    _, thread = one.start()
    finish(thread)
    assert the_run(engine, run_id).status == "completed"
    assert "exports/ann/config.json" in store.sizes(claim.folder)


def test_a_damaged_checkpoint_is_said_on_the_runs_page(
    settings: WorkerSettings, engine: Engine, store: Store, run_id: int, tmp_path: Path
) -> None:
    one, two = Machine(settings, engine, tmp_path / "one"), Machine(settings, engine, tmp_path / "two")
    claim, thread = one.start()
    eventually(lambda: {f"checkpoints/{manifest_name(seq)}" for seq in (10, 20)} <= set(store.sizes(claim.folder)))
    one.drain.set()
    finish(thread)
    key = f"{claim.folder}/checkpoints/bob-000020/weights.safetensors"
    store.put_bytes(store.read(key)[:-3], key)
    claim, thread = two.start()
    eventually(lambda: two.folder(claim).exists())
    (two.folder(claim) / "go").write_text("")
    finish(thread)
    assert the_run(engine, run_id).status == "completed"
    with reading(engine) as session:
        (notice,) = session.exec(select(NoticeRow).where(col(NoticeRow.kind) == "checkpoint")).all()
    assert "bytes instead of" in notice.message
    assert "goes on from the one before" in notice.message
    assert "going on from 10" in logs.read(store, claim.folder, after=0, limit=100_000).text


def test_a_worker_clears_copies_of_deleted_runs_and_checkpoints_of_finished_ones(
    settings: WorkerSettings, engine: Engine, store: Store, run_id: int, tmp_path: Path
) -> None:
    one = Machine(settings, engine, tmp_path / "one")
    claim, thread = one.start()
    eventually(lambda: one.folder(claim).exists())
    (one.folder(claim) / "go").write_text("")
    finish(thread)
    strange = one.settings.runs_folder / "000099-ffff"
    strange.mkdir()
    tidy(one.settings, engine)
    assert {path.name for path in one.folder(claim).iterdir()} >= {"exports", "log"}
    assert not (one.folder(claim) / "checkpoints").exists()
    with writing(engine) as session:
        runs.request_resume(session, run_id)  # its ending is made again, from what the store has
    _, thread = one.start()
    finish(thread)
    assert "going on from 30" in logs.read(store, claim.folder, after=0, limit=100_000).text
    with writing(engine) as session:
        retention.request_deletion(session, run_id, actor="ann")
    tidy(one.settings, engine)
    assert not one.folder(claim).exists()
    assert strange.exists()
