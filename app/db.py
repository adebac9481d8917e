"""The database: engines, transactions and migrations. SQLite in WAL mode, or PostgreSQL by URL.

One clock serves every lease and timestamp: the process's UTC time (`now`). Machines that share a
database keep their clocks in step by NTP; a lease outlasts the skew that this leaves.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, SQLModel, create_engine

from opcod.plain_text import storable

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_SECONDS = 30
HUNG_SECONDS = 10
"""PostgreSQL ends a write whose process says nothing for so long: a machine that hangs would keep its rows, a run's among them,
from whoever is to take over. Shorter than a lease."""
_APPLICATION = "OPCoD Studio"
"""What this project's sessions call themselves (PostgreSQL)."""
_END_HUNG = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND application_name = :application"
    " AND backend_xid IS NOT NULL AND wait_event IN ('ClientRead', 'ClientWrite')"
    " AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)
IS_STORABLE = {"parameters_are_storable": True}
"""Execution options of a statement whose parameters need not be looked through (see `app.rows`)."""
MIGRATION_LOCK = 0x0DC0D
"""Key of the advisory lock that keeps two starting servers from migrating together."""


def now() -> datetime:
    """The current time; the only clock of leases and timestamps."""
    return datetime.now(UTC)


def make_engine(url: str, *, connections: int = 30) -> Engine:
    """An engine for `url` with at most so many connections; a SQLite file's folder is made where it is missing.

    Its errors quote no stored text: they are logged.
    """
    pool = {"pool_size": min(10, connections), "max_overflow": max(0, connections - 10)}
    if make_url(url).get_backend_name() != "sqlite":
        connect = {"connect_timeout": 5, "application_name": _APPLICATION}
        # The connection used last is used next: its statements are prepared and its catalogue is read, which takes longer than a page may.
        engine = create_engine(url, pool_pre_ping=True, pool_use_lifo=True, connect_args=connect, hide_parameters=True, **pool)
        event.listen(engine, "before_cursor_execute", _make_storable, retval=True)
        event.listen(engine, "handle_error", _tell_as_lost)
        return engine
    database = make_url(url).database
    if database and database != ":memory:":
        Path(database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True, **pool)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "before_cursor_execute", _make_storable, retval=True)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin late; `_begin_sqlite` begins
    for pragma in (f"busy_timeout={_BUSY_SECONDS * 1000}", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:  # of servers that make the file together all but one are refused, whatever the busy timeout
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _make_storable(_connection: Any, _cursor: Any, statement: str, parameters: Any, context: Any, _many: bool) -> tuple[str, Any]:
    """Text that is stored or asked for, as every database takes it: the same on both, and no error from what somebody typed."""
    ready = context is not None and IS_STORABLE.items() <= context.execution_options.items()
    return statement, parameters if ready else storable_within(parameters)


def storable_within(value: Any) -> Any:
    """`value` with every text in it, but for keys, as every database takes it."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {key: storable_within(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(storable_within, value))
    return value


def _tell_as_lost(context: ExceptionContext) -> None:
    """A write that hung for too long has lost its connection, as with a database that restarts; the driver calls it an internal error."""
    if getattr(context.original_exception, "sqlstate", None) == "25P03":
        context.is_disconnect = True
        raise OperationalError(context.statement, None, context.original_exception, hide_parameters=True, connection_invalidated=True)


def _begin_sqlite(connection: Connection) -> None:
    """A transaction that will write takes the write lock first: one that turns from reader to writer may be refused."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session for reading: one consistent view on SQLite, nothing is committed."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session for writing: commits at the end, rolls back if anything is raised, or if nothing comes for `HUNG_SECONDS` (PostgreSQL).

    Ring bells after leaving it, never inside.
    """
    with Session(engine.execution_options(writes=True), expire_on_commit=False) as session, session.begin():
        if engine.dialect.name == "postgresql":
            session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {HUNG_SECONDS * 1000:d}"))
        yield session


def end_hung(session: Session) -> None:
    """End writes whose machine fell silent where none of PostgreSQL's timeouts counts: in the middle of a statement, or between the
    messages of a pipeline. One that says only Flush, or Close, turns the timeout off for good. Whoever only reads is left alone.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_END_HUNG, {"application": _APPLICATION, "seconds": HUNG_SECONDS})


def insert_into(session: Session, table: type[SQLModel]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows of conflicts (``on_conflict_do_nothing``, ``on_conflict_do_update``), as the session's database writes it."""
    return postgresql.insert(table) if session.get_bind().dialect.name == "postgresql" else sqlite.insert(table)


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version. Safe to call from several starting processes at once."""
    with altering(engine) as connection:
        command.upgrade(migration_config(connection), "head")


@contextmanager
def altering(engine: Engine) -> Iterator[Connection]:
    """A transaction that may alter tables, one at a time over all processes; commits at the end.

    SQLite alters a table by copying it and dropping the old one, which must not take the rows along that
    refer to it: references are left alone meanwhile, and checked before the commit.

    Raises:
        IntegrityError: a row refers to one that is not there; nothing was changed.
    """
    with engine.execution_options(writes=True).connect() as connection:
        if connection.dialect.name == "postgresql":
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
                yield connection
            return
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys=OFF")  # takes no effect within a transaction
        try:
            with connection.begin():
                yield connection
                broken = connection.execute(text("PRAGMA foreign_key_check")).first()
                if broken is not None:
                    raise IntegrityError(
                        "PRAGMA foreign_key_check", None, ValueError(f"a row of {broken[0]} refers to none of {broken[2]}")
                    )
        finally:
            raw.execute("PRAGMA foreign_keys=ON")


def migration_config(connection: Connection) -> Config:
    """Alembic's configuration, bound to `connection`."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
