"""Every earlier version's data survives the way to the newest. Rows are made by looking at the tables: new versions are covered too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    select,
    text,
)
from sqlmodel import Session, SQLModel
from sqlmodel import select as select_rows

from app.db import MIGRATIONS, altering, migrate, migration_config
from app.idempotency import Asked, earlier
from app.records import queries
from app.tables import metadata
from tests.unit.app.factories import config

ROWS = 3
KNOWN: dict[str, Any] = {
    "experiments.config": [config(), config(name="b"), config(name="c")],
    "runs.status": ["completed", "queued", "running"],
    "runs.archived": [False, False, False],
    "runs.deleted_at": [None, None, None],
    "runs.needs_device": [None, "cpu", "gpu"],
    "runs.tags": [[], ["a"], ["a", "τ 0.2"]],
    "runs.steps_done": [{}, {"s1": 1}, {"s1": 1, "s2": 2}],
    "runs.verdict": [None, None, {"mutual_improvement": True, "students": {"s1": True, "s2": True}}],
    "evaluations.split": ["validation", "test", "test"],
    "exchanges.outcome": [None, "kept", "no_match"],
    "exchanges.effect": [None, "break", "rescue"],
    "feedbacks.outcome": ["kept", "kept", "no_match"],
}
"""Values that must make sense to be read, where any value of the column's type would not."""
CHANGED: dict[str, str] = {"experiments.idempotency_key": "stands in idempotency_keys, for each person"}
"""`table.column` that a version alters on purpose -> why."""


def revisions() -> list[str]:
    """Every version but the newest, oldest first."""
    script = ScriptDirectory(str(MIGRATIONS))
    return [revision.revision for revision in reversed(list(script.walk_revisions()))][:-1]


def value(column: Column[Any], row: int) -> Any:
    """Something that fits the column; different in each row, and nothing in the first where nothing is allowed."""
    known = KNOWN.get(f"{column.table.name}.{column.name}")
    if known is not None:
        return known[row]
    if column.nullable and row == 0:
        return None
    if column.foreign_keys:
        (reference,) = column.foreign_keys
        return value(reference.column, row)
    match column.type:
        case Boolean():
            return row % 2 == 0
        case DateTime():
            moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC) + timedelta(hours=row)
            return moment if column.type.timezone else moment.replace(tzinfo=None)
        case JSON():
            return [] if column.server_default is not None else {"name": f"τ{row}", "n": row}
        case Integer():
            return row + 1
        case Float():
            return row + 0.1
        case LargeBinary():
            return bytes([0, row])
        case String():
            return f"{column.name} {row} τ×"
        case other:
            raise AssertionError(f"{column}: tell this test how to make a {other!r}")


def tables(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def rows(connection: Connection, table: Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Primary key -> row."""
    found = connection.execute(select(table)).mappings().all()
    return {tuple(row[column.name] for column in table.primary_key): dict(row) for row in found}


@pytest.mark.parametrize("revision", revisions())
def test_data_of_an_earlier_version_is_kept(empty: Engine, revision: str) -> None:
    with altering(empty) as connection:
        command.upgrade(migration_config(connection), revision)
        for table in tables(connection):
            connection.execute(table.insert(), [{column.name: value(column, row) for column in table.columns} for row in range(ROWS)])
    with empty.connect() as connection:
        before = {table.name: rows(connection, table) for table in tables(connection)}
    assert {len(found) for found in before.values()} == {ROWS}

    migrate(empty)

    with empty.connect() as connection:
        after = {table.name: rows(connection, table) for table in tables(connection)}
    for name, found in before.items():
        for key, row in found.items():
            kept = {column: after[name][key][column] for column in row if f"{name}.{column}" not in CHANGED}
            assert kept == {column: row[column] for column in kept}, name
    _check_that_the_code_can_read_it(empty)
    _check_that_numbers_are_never_used_again(empty)


def test_keys_of_requests_go_on_working(empty: Engine) -> None:
    with altering(empty) as connection:
        command.upgrade(migration_config(connection), "0002")
        made = {"id": 7, "name": "one", "config": "{}", "idempotency_key": "k", "created_at": datetime.now(UTC)}
        names = ", ".join(made)
        connection.execute(text(f"INSERT INTO experiments ({names}) VALUES ({', '.join(f':{name}' for name in made)})"), made)
    migrate(empty)
    with Session(empty) as session:
        assert earlier(session, Asked("user", "k", "experiment", {"preset": "tiny"})) == 7


def _check_that_the_code_can_read_it(engine: Engine) -> None:
    classes = [mapper.class_ for mapper in SQLModel._sa_registry.mappers]
    with Session(engine) as session:
        for row_class in classes:
            list(session.exec(select_rows(row_class)).all())
        listed = queries.run_list(session).items
    assert [run.status for run in listed] == ["running", "queued", "completed"]


def _check_that_numbers_are_never_used_again(engine: Engine) -> None:
    """SQLite forgets AUTOINCREMENT when a table is copied without saying so."""
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        made = {row.name: row.sql for row in connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))}
    for table in metadata.tables.values():
        if table.dialect_options["sqlite"]["autoincrement"]:
            assert "AUTOINCREMENT" in made[table.name], table.name
