"""Restores a backup: all of it in one transaction, or nothing."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from shutil import rmtree
from typing import Any

from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, MetaData, Table, func, select, text, update
from sqlmodel import Session, col

from app.backups.archive import Manifest, check, lines, parts, reading_archive
from app.backups.dump import ROWS, counters
from app.backups.values import bound, decoders, reflected
from app.db import MIGRATIONS, altering, migration_config
from app.lifecycle import runs
from app.records.exchange_search import search_of
from app.tables import RunRow
from opcod.errors import DataError, ResourceError

TOKENS_SKIPPED = 1_000_000
"""Attempts that began after the backup was made hold tokens that it does not know. None of them is ever given out again."""


def restore(engine: Engine, path: Path, *, replace: bool = False, artefacts: Path | None = None) -> Manifest:
    """Fill the database from the backup at `path`, and bring it to this version's schema.

    The database must be empty, or `replace` be given, which throws away what is there. Runs that a worker
    held when the backup was made wait in the queue afterwards and go on from their last checkpoint; no
    worker that holds one from before can write to it any more. The runs' files go to `artefacts`, where the
    backup has any and that is given.

    Raises:
        DataError: the file is no backup, is damaged, or comes from a newer version.
        ResourceError: the database, or the folder, is not empty.
    """
    with reading_archive(path) as (archive, manifest):
        _known(manifest)
        check(path, archive, manifest)
        files = _Files(artefacts, replace) if artefacts is not None and manifest.artefacts else None
        try:
            if files is not None:
                files.unpack(archive, manifest)
            with altering(engine) as connection:
                _fill(connection, archive, manifest, replace)
                if files is not None:
                    files.put()
            search_of(engine).reset()
        finally:
            if files is not None:
                files.clear()
    return manifest


def _known(manifest: Manifest) -> None:
    try:
        ScriptDirectory(str(MIGRATIONS)).get_revision(manifest.schema_version)
    except CommandError:
        raise DataError(
            f"The backup's schema {manifest.schema_version} is not known here: a newer version made it.",
            advice="Upgrade OPCoD Studio, then restore.",
        ) from None


def _fill(connection: Connection, archive: zipfile.ZipFile, manifest: Manifest, replace: bool) -> None:
    present = reflected(connection)
    filled = [table.name for table in present if connection.execute(select(table).limit(1)).first() is not None]
    if filled and not replace:
        raise ResourceError(
            f"The database is not empty: it has rows in {', '.join(filled)}.",
            advice="Name an empty one, or add --replace to lose them.",
        )
    given_out = counters(connection, present)
    _drop_all(connection)
    command.upgrade(migration_config(connection), manifest.schema_version)
    tables = {table.name: table for table in reflected(connection)}
    for name in tables:
        if name in manifest.tables:
            _load(connection, tables[name], manifest.tables[name].columns, lines(archive, f"tables/{name}.jsonl"))
    for name, counter in manifest.counters.items():
        skipped = TOKENS_SKIPPED if name == "attempts" else 0
        _give_out_after(connection, tables[name], max(counter + skipped, given_out.get(name, 0)))
    command.upgrade(migration_config(connection), "head")
    with Session(connection) as session:
        session.exec(update(RunRow).where(col(RunRow.status).in_(runs.HELD)).values(lease_until=manifest.made_at))
        runs.reap(session)
        session.flush()


def _drop_all(connection: Connection) -> None:
    everything = MetaData()
    everything.reflect(connection)
    everything.drop_all(connection)


def _load(connection: Connection, table: Table, names: list[str], rows: Iterator[bytes]) -> None:
    columns = [table.columns[name] for name in names]
    decode = decoders(columns)
    insert = table.insert().values({column.name: bound(column, connection) for column in columns})
    while batch := list(islice(rows, ROWS)):
        values: list[dict[str, Any]] = [
            {name: take(value) for name, take, value in zip(names, decode, json.loads(row), strict=True)} for row in batch
        ]
        connection.execute(insert, values)


def _give_out_after(connection: Connection, table: Table, counter: int) -> None:
    """No id up to `counter` is given out again."""
    if connection.dialect.name == "sqlite":
        made = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
        if "AUTOINCREMENT" not in connection.execute(made, {"name": table.name}).scalar_one():
            return
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), {"name": table.name, "seq": counter})
        return
    sequence = func.pg_get_serial_sequence(f'"{table.name}"', "id")
    if connection.execute(select(sequence)).scalar() is not None:
        connection.execute(select(func.setval(sequence, max(counter, 1), counter > 0)))


class _Files:
    """The runs' files, unpacked beside their place and moved there in one go."""

    def __init__(self, folder: Path, replace: bool) -> None:
        if not replace and folder.is_dir() and any(folder.iterdir()):
            raise ResourceError(f"The folder {folder} is not empty.", advice="Name another home, or add --replace to lose what is there.")
        self._folder = folder
        self._fresh = folder.with_name(f".{folder.name}.restoring")
        self._old = folder.with_name(f".{folder.name}.replaced")

    def unpack(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        rmtree(self._fresh, ignore_errors=True)
        for name in manifest.sha256:
            place = PurePosixPath(name)
            if place.parts[0] != "artefacts":
                continue
            if ".." in place.parts or place.is_absolute():
                raise DataError(f"The backup names a file outside of its folder: {name}.")
            target = self._fresh.joinpath(*place.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as file:
                file.writelines(parts(source))

    def put(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        rmtree(self._old, ignore_errors=True)
        if self._folder.exists():
            os.rename(self._folder, self._old)
        os.rename(self._fresh, self._folder)

    def clear(self) -> None:
        for folder in (self._fresh, self._old):
            rmtree(folder, ignore_errors=True)
