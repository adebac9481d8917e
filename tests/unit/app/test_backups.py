"""A backup restores what was there, into either database, or changes nothing."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, select, text
from sqlmodel import col
from sqlmodel import select as select_rows

from app.backups import backup, read_manifest, restore
from app.backups.archive import MANIFEST
from app.backups.load import TOKENS_SKIPPED
from app.backups.values import reflected
from app.db import altering, make_engine, migrate, migration_config, reading, writing
from app.errors import LeaseLost
from app.lifecycle import runs
from app.records.ingest import ingest
from app.tables import AttemptRow, EventRow, ExchangeRow, RunRow, metadata
from opcod.errors import DataError, ResourceError
from tests.unit.app.factories import claimed, exchange, queued_run, story


def contents(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, times as they are read by the code's own tables."""
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in metadata.sorted_tables
        }


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """One run completed, one waiting; text that tries every encoding; JSON null beside nothing."""
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, [*story(), exchange(95, step=2, text="τ × 𝔘 \u202e ' \" \\ \n\t\x00 <b>")])
    with writing(engine) as session:
        runs.finish(session, claim, "completed")
    queued_run(engine)
    return engine


@pytest.fixture
def empty_file(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    yield engine
    engine.dispose()


def test_what_is_restored_is_what_was_saved(filled: Engine, empty: Engine, tmp_path: Path) -> None:
    """From either database into either."""
    manifest = backup(filled, tmp_path / "backup.zip")
    assert manifest.rows > 40
    restore(empty, tmp_path / "backup.zip")
    assert contents(empty) == contents(filled)
    with filled.connect() as before, empty.connect() as after:  # nothing, and null in JSON, stay apart
        nothing = text("SELECT count(*) FROM runs WHERE verdict IS NULL")
        assert before.execute(nothing).scalar() == after.execute(nothing).scalar()


def test_ids_are_never_given_out_again(filled: Engine, empty: Engine, tmp_path: Path) -> None:
    with writing(filled) as session:
        newest = max(run.id or 0 for run in session.exec(select_rows(RunRow)).all())
        session.execute(text("DELETE FROM events WHERE run_id = :run"), {"run": newest})
        session.execute(text("DELETE FROM transitions WHERE run_id = :run"), {"run": newest})
        session.execute(text("DELETE FROM runs WHERE id = :run"), {"run": newest})
    backup(filled, tmp_path / "backup.zip")
    restore(empty, tmp_path / "backup.zip")
    assert queued_run(empty) > newest


def test_a_run_that_was_held_goes_on_and_its_old_worker_is_shut_out(engine: Engine, empty_file: Engine, tmp_path: Path) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        ingest(session, run_id, claim.token, story()[:3])
    backup(engine, tmp_path / "backup.zip")
    restore(empty_file, tmp_path / "backup.zip")
    with pytest.raises(LeaseLost), writing(empty_file) as session:
        ingest(session, run_id, claim.token, story())
    again = claimed(empty_file)
    assert again.run_id == run_id
    assert again.token > TOKENS_SKIPPED
    with reading(empty_file) as session:
        attempt = session.get(AttemptRow, claim.token)
        assert attempt is not None
        assert attempt.outcome == "lapsed"


def test_a_backup_under_writers_is_one_moment(engine: Engine, empty_file: Engine, tmp_path: Path) -> None:
    """Writers go on throughout; each batch is there with all of its rows, or not at all, and nothing of later batches."""
    claim_of = {run_id: claimed(engine, run_id) for run_id in (queued_run(engine), queued_run(engine))}
    stop, begun = threading.Event(), threading.Semaphore(0)

    def write(run_id: int) -> None:
        seq = 100
        while not stop.is_set():
            with writing(engine) as session:
                ingest(session, run_id, claim_of[run_id].token, [exchange(seq + i, index=i) for i in range(10)])
            seq += 10
            begun.release()

    writers = [threading.Thread(target=write, args=(run_id,)) for run_id in claim_of]
    for writer in writers:
        writer.start()
    try:
        for _ in range(20):
            assert begun.acquire(timeout=30)
        backup(engine, tmp_path / "backup.zip")
        for _ in range(10):  # they were not held up
            assert begun.acquire(timeout=30)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    restore(empty_file, tmp_path / "backup.zip")
    with reading(empty_file) as session:
        for run_id in claim_of:
            events = session.exec(select_rows(EventRow.seq).where(col(EventRow.run_id) == run_id, col(EventRow.seq).is_not(None))).all()
            exchanges = session.exec(select_rows(ExchangeRow.seq).where(col(ExchangeRow.run_id) == run_id)).all()
            assert sorted(seq for seq in events if seq) == sorted(exchanges) == list(range(100, 100 + len(exchanges)))
            assert len(exchanges) % 10 == 0
        assert session.exec(select_rows(ExchangeRow.id).limit(1)).first()


def test_a_full_database_is_refused_unless_it_may_be_replaced(filled: Engine, tmp_path: Path) -> None:
    backup(filled, tmp_path / "backup.zip")
    before = contents(filled)
    later = queued_run(filled)
    with pytest.raises(ResourceError, match=r"not empty: it has rows in .*runs"):
        restore(filled, tmp_path / "backup.zip")
    restore(filled, tmp_path / "backup.zip", replace=True)
    assert contents(filled) == before
    assert queued_run(filled) > later  # its id is not given to another


def test_an_earlier_versions_backup_is_brought_up_to_date(empty: Engine, tmp_path: Path) -> None:
    with altering(empty) as connection:
        command.upgrade(migration_config(connection), "0001")
        connection.execute(text("INSERT INTO experiments (name, config, created_at) VALUES ('old', '{}', '2026-01-01')"))
    backup(empty, tmp_path / "backup.zip")
    restore(empty, tmp_path / "backup.zip", replace=True)
    with empty.connect() as connection:
        assert connection.execute(text("SELECT name FROM experiments")).scalar() == "old"
    migrate(empty)
    queued_run(empty)


@pytest.mark.parametrize("damage", ["cut", "bit", "row", "stranger", "newer"])
def test_a_file_that_is_not_whole_changes_nothing(lasting_engine: Engine, tmp_path: Path, damage: str) -> None:
    queued_run(lasting_engine)
    path = tmp_path / "backup.zip"
    backup(lasting_engine, path)
    whole = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "bit":
            with zipfile.ZipFile(path) as archive:
                middle = archive.getinfo("tables/runs.jsonl").header_offset
            middle += 30 + sum(int.from_bytes(whole[middle + at : middle + at + 2], "little") for at in (26, 28)) + 20
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        case "row":
            _rewrite(path, "tables/runs.jsonl", lambda content: content + content)
        case "stranger":
            path.write_text("hello", encoding="utf-8")
        case "newer":
            _rewrite(path, MANIFEST, lambda content: json.dumps(json.loads(content) | {"schema_version": "9999"}).encode())
    before = contents(lasting_engine)
    with pytest.raises(DataError):
        restore(lasting_engine, path, replace=True)
    assert contents(lasting_engine) == before


def _rewrite(path: Path, member: str, change: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents[member] = change(contents[member])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def test_a_restore_that_fails_half_way_leaves_what_was_there(filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup(filled, tmp_path / "backup.zip")
    before = contents(filled)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.backups.load._give_out_after", fail)
    with pytest.raises(OSError, match="No space"):
        restore(filled, tmp_path / "backup.zip", replace=True)
    assert contents(filled) == before


def test_a_backup_that_fails_leaves_no_file(filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "backup.zip").write_text("the one before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.backups.dump.counters", fail)
    with pytest.raises(OSError, match="No space"):
        backup(filled, tmp_path / "backup.zip")
    assert (tmp_path / "backup.zip").read_text() == "the one before"
    assert [path.name for path in tmp_path.glob("*backup*")] == ["backup.zip"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "runs"
    (folder / "000001-a" / "checkpoints" / ".4.partial").mkdir(parents=True)
    (folder / "000001-a" / "log.txt").write_text("log", encoding="utf-8")
    (folder / "000001-a" / "checkpoints" / "3.safetensors").write_bytes(bytes(range(256)) * 10_000)
    (folder / "000001-a" / "checkpoints" / ".4.partial" / "half").write_bytes(b"half")
    (folder / "000001-a" / ".writer").touch()
    return folder


def test_the_runs_files_go_along_where_they_are_asked_for(lasting_engine: Engine, folder: Path, tmp_path: Path) -> None:
    queued_run(lasting_engine)
    backup(lasting_engine, tmp_path / "backup.zip", artefacts=folder)
    assert read_manifest(tmp_path / "backup.zip").artefacts == 2
    target = make_engine(f"sqlite:///{tmp_path / 'second' / 'opcod.db'}")
    restored = tmp_path / "second" / "runs"
    restore(target, tmp_path / "backup.zip", artefacts=restored)
    files = {path.relative_to(restored).as_posix(): path.read_bytes() for path in restored.rglob("*") if path.is_file()}
    assert files == {"000001-a/log.txt": b"log", "000001-a/checkpoints/3.safetensors": bytes(range(256)) * 10_000}
    with pytest.raises(ResourceError, match="not empty"):
        restore(target, tmp_path / "backup.zip", artefacts=restored)
    (restored / "000001-a" / "later").touch()
    restore(target, tmp_path / "backup.zip", artefacts=restored, replace=True)
    assert not (restored / "000001-a" / "later").exists()
    assert sorted(path.name for path in (tmp_path / "second").iterdir() if "runs" in path.name) == ["runs"]
    target.dispose()


def test_the_file_is_for_its_owner_alone(lasting_engine: Engine, tmp_path: Path) -> None:
    backup(lasting_engine, tmp_path / "backup.zip")
    assert (tmp_path / "backup.zip").stat().st_mode & 0o077 == 0


def test_every_table_is_saved(lasting_engine: Engine, tmp_path: Path) -> None:
    manifest = backup(lasting_engine, tmp_path / "backup.zip")
    assert set(manifest.tables) == set(metadata.tables)
    with lasting_engine.connect() as connection:
        assert list(manifest.tables) == [table.name for table in reflected(connection)]
