"""Runs are removed whole: every row, every artefact, and after a crash at any step as well."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlmodel import col

from app.artefacts.store import Store, StoreError, open_store
from app.artefacts.usage import set_budget, usage
from app.db import now, reading, writing
from app.errors import Conflict, NotFound
from app.lifecycle import retention, runs
from app.records import exchange_queries, notices
from app.records.ingest import ingest
from app.settings import Settings
from app.tables import DeletionRow, RunRow, StudentRow, WorkerRow, metadata
from tests.unit.app.factories import claimed, queued_run, story


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path / "home"))


def told_run(engine: Engine, store: Store, *, ended: bool = True) -> int:
    """A run with rows of every kind, and artefacts."""
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        ingest(session, run_id, claim.token, story())
        notices.add(session, run_id, "checkpoint", "A checkpoint was damaged.")
    with reading(engine) as session:
        exchange_id = exchange_queries.exchanges(session, run_id, limit=1).items[0].id
    with writing(engine) as session:
        session.execute(
            metadata.tables["exchange_labels"]
            .insert()
            .values(exchange_id=exchange_id, run_id=run_id, label="starred", person="user", at=now())
        )
        session.add(WorkerRow(name=f"w{run_id}", host="h", pid=1, device="cpu", run_id=run_id, started_at=now(), seen_at=now()))
        if ended:
            runs.finish(session, claim, "completed")
    store.put_bytes(b"weights", f"{claim.folder}/exports/s1/model.safetensors")
    return run_id


def rows_of(engine: Engine, run_id: int) -> dict[str, int]:
    """Table -> rows that name the run, in whichever column."""
    found = {}
    with reading(engine) as session:
        for table in metadata.sorted_tables:
            if table.name == "deletions":
                continue
            columns = [column for column in table.columns if column.name == "run_id"]
            columns += [table.c.id, table.c.copied_from, table.c.retried_as] if table.name == "runs" else []
            count = sum(session.execute(select(func.count()).select_from(table).where(column == run_id)).scalar_one() for column in columns)
            if count:
                found[table.name] = count
    return found


def delete(engine: Engine, run_id: int) -> None:
    with writing(engine) as session:
        retention.request_deletion(session, run_id, actor="ann")


def pretend_time_passes(engine: Engine, seconds: float) -> None:
    with writing(engine) as session:
        session.exec(update(DeletionRow).values(requested_at=now() - timedelta(seconds=seconds)))


def test_a_deleted_run_leaves_no_row_and_no_file_and_others_stay_as_they_are(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    kept, gone = told_run(engine, store), told_run(engine, store)
    with writing(engine) as session:
        clone = session.get_one(RunRow, kept)
        clone.copied_from = gone
    before = rows_of(engine, kept)
    assert {"events", "exchanges", "feedbacks", "steps", "notices", "attempts", "transitions", "students"} <= set(before)
    delete(engine, gone)
    retention.sweep_deletions(engine, store)
    assert rows_of(engine, gone) == {}
    assert rows_of(engine, kept) == before
    with reading(engine) as session:
        assert session.get_one(RunRow, kept).copied_from is None
        assert session.execute(select(func.count()).select_from(metadata.tables["exchange_labels"])).scalar_one() == 1
        assert [student.run_id for student in session.execute(select(StudentRow)).scalars()] == [kept]
    assert {path.split("-")[0] for path in store.sizes(".")} == {f"{kept:06d}"}


def test_what_a_slow_worker_writes_late_is_removed_too(engine: Engine, store: Store) -> None:
    run_id = told_run(engine, store)
    delete(engine, run_id)
    retention.sweep_deletions(engine, store)
    with reading(engine) as session:
        folder = session.get_one(DeletionRow, run_id).folder
    store.put_bytes(b"late", f"{folder}/checkpoints/checkpoint-1.json")
    pretend_time_passes(engine, 300)
    retention.sweep_deletions(engine, store)
    assert store.sizes(folder) == {}
    with reading(engine) as session:
        assert session.get_one(DeletionRow, run_id).finished_at is not None


def test_a_crash_between_rows_and_artefacts_leaves_nothing_behind(engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = told_run(engine, store)
    delete(engine, run_id)

    def refuse(prefix: str) -> None:
        raise StoreError("The store is away.")

    with monkeypatch.context() as broken:
        broken.setattr(store, "remove_tree", refuse)
        with pytest.raises(StoreError):
            retention.sweep_deletions(engine, store)
    pretend_time_passes(engine, 300)
    retention.sweep_deletions(engine, store)
    assert store.sizes(".") == {}


def test_a_crash_amid_the_rows_is_gone_on_with(engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = told_run(engine, store)
    delete(engine, run_id)
    remove = retention._remove_in_batches
    calls = [0]

    def dying(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == 5:
            raise KeyboardInterrupt
        remove(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(retention, "_remove_in_batches", dying)
        with pytest.raises(KeyboardInterrupt):
            retention.sweep_deletions(engine, store)
    with writing(engine) as session, pytest.raises(NotFound):
        runs.request_resume(session, run_id)  # nobody brings a half-deleted run back
    retention.sweep_deletions(engine, store)
    assert rows_of(engine, run_id) == {}


def test_a_held_run_refuses_and_a_waiting_one_leaves_the_queue(engine: Engine, store: Store) -> None:
    held, waiting = told_run(engine, store, ended=False), queued_run(engine)
    with pytest.raises(Conflict, match="Stop it first"):
        delete(engine, held)
    delete(engine, waiting)
    with reading(engine) as session:
        assert runs.queued(session) == []
    with pytest.raises(NotFound):
        delete(engine, waiting)


def test_every_table_that_hangs_on_a_run_goes_with_it(engine: Engine) -> None:
    """A new table that refers to a run's rows, but not to the run, must say what becomes of it."""
    of_runs = {
        table
        for table in metadata.sorted_tables
        for key in table.foreign_keys
        if key.target_fullname == "runs.id" and (not key.parent.nullable or table.name == "students")
    }
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            if key.column.table in of_runs and table not in of_runs:
                assert key.ondelete in ("CASCADE", "SET NULL"), f"{table.name} would keep a run's rows from being deleted"


def test_above_the_budget_only_runs_that_had_begun_are_taken(engine: Engine) -> None:
    begun = queued_run(engine)
    claim = claimed(engine, begun)
    new = queued_run(engine)
    with writing(engine) as session:
        runs.release(session, claim)
        session.exec(update(RunRow).where(col(RunRow.id) == new).values(priority=5))
        session.exec(update(RunRow).where(col(RunRow.id) == begun).values(size_bytes=2**30))
        set_budget(session, 1.2)
        assert usage(session).state == "near"
        set_budget(session, 1.0)
        assert usage(session).state == "over"
    assert claimed(engine).run_id == begun
    with writing(engine) as session:
        assert runs.claim(session, worker="w", device="cpu", lease_seconds=9) is None
        set_budget(session, 0)
    assert claimed(engine).run_id == new
