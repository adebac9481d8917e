"""Writes a backup, from one consistent view of the database while others go on writing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, func, select, text

from app.backups.archive import ArchiveWriter, Manifest, TableNote, parts, writing_archive
from app.backups.values import encode, reflected, selected
from app.db import now
from opcod.errors import DataError

ROWS = 500
"""Read at a time."""
UNFINISHED = (".part", ".partial", ".tmp")
"""Files of runs that are still being written end so."""


def backup(engine: Engine, path: Path, *, artefacts: Path | None = None) -> Manifest:
    """Save the whole database to `path`, and the files under `artefacts` where that is given.

    Memory stays the same however large either is.

    Raises:
        DataError: the database has no tables of ours.
        OSError: the file cannot be written. None is left then.
    """
    with snapshot(engine) as connection, writing_archive(path) as archive:
        tables = reflected(connection)
        if not tables:
            raise DataError("There is nothing to back up: the database has no tables.", advice="Name it in OPCOD_DATABASE_URL or --home.")
        notes = {table.name: _dump(connection, table, archive) for table in tables}
        if artefacts is not None:
            _dump_files(artefacts, archive)
        manifest = Manifest(
            schema_version=connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one(),
            made_at=now(),
            made_from=connection.dialect.name,
            tables=notes,
            counters=counters(connection, tables),
            sha256=archive.sha256,
        )
        archive.close(manifest)
    return manifest


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees one moment of the database, whatever is committed meanwhile."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def counters(connection: Connection, tables: list[Table]) -> dict[str, int]:
    """Table -> the highest id ever given out, where the database gives out ids."""
    found: dict[str, int] = {}
    for table in tables:
        if not _numbered(table):
            continue
        highest = connection.execute(select(func.max(table.c.id))).scalar() or 0
        found[table.name] = max(highest, _given_out(connection, table.name))
    return found


def _given_out(connection: Connection, table: str) -> int:
    if connection.dialect.name == "sqlite":
        return connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table}).scalar() or 0
    sequence = connection.execute(text("SELECT pg_get_serial_sequence(:name, 'id')"), {"name": f'"{table}"'}).scalar()
    if sequence is None:
        return 0
    return connection.execute(text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")).scalar() or 0


def _numbered(table: Table) -> bool:
    keys = list(table.primary_key)
    return len(keys) == 1 and keys[0].name == "id" and keys[0].type.python_type is int


def _dump(connection: Connection, table: Table, archive: ArchiveWriter) -> TableNote:
    columns = list(table.columns)
    count = 0

    def rows() -> Iterator[bytes]:
        nonlocal count
        ordered = select(*map(selected, columns)).order_by(*table.primary_key)
        for batch in connection.execution_options(yield_per=ROWS).execute(ordered).partitions():
            count += len(batch)
            yield "".join(json.dumps([encode(value) for value in row]) + "\n" for row in batch).encode()

    archive.add(f"tables/{table.name}.jsonl", rows())
    return TableNote(columns=[column.name for column in columns], rows=count)


def _dump_files(folder: Path, archive: ArchiveWriter) -> None:
    """Every finished file; one that is deleted meanwhile, as old checkpoints are, is left out."""
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in place.parts)  # locks, and what is not finished yet
        if hidden or path.suffix in UNFINISHED or path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                archive.add(f"artefacts/{place.as_posix()}", parts(file), compress=False)
        except FileNotFoundError:
            continue
