"""Many new rows of a table at once, as each database takes them fastest.

What a run records is written on the processors that train it, so that each row's price is paid by its steps. SQLite is given tuples;
PostgreSQL one text of JSON in one statement, so that neither driver nor network is busy with single rows, and a connection that is
lost is lost within a statement, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import JSON, Column, Dialect, LargeBinary, String, Table
from sqlmodel import AutoString, Session, SQLModel

from app.db import IS_STORABLE, storable_within
from opcod.plain_text import storable

Convert = Callable[[Any], Any]


def add_rows(session: Session, table: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, all of which name the same columns; what they leave out is left to the database. Text is made storable.

    Raises:
        IntegrityError: a row breaks a rule of the table.
    """
    if not rows:
        return
    connection = session.connection()
    into: Table = table.__table__  # type: ignore[attr-defined]
    insert, converts = _plan(into, tuple(rows[0]), connection.dialect)
    given: Any
    if connection.dialect.name == "postgresql":
        whole = [{name: convert(row[name]) if convert else row[name] for name, convert in converts} for row in rows]
        given = (to_json(whole, inf_nan_mode="strings").decode(),)
    else:
        given = [tuple([convert(row[name]) if convert else row[name] for name, convert in converts]) for row in rows]
    connection.exec_driver_sql(insert, given, IS_STORABLE)


@cache
def _plan(table: Table, names: tuple[str, ...], dialect: Dialect) -> tuple[str, list[tuple[str, Convert | None]]]:
    quote = dialect.identifier_preparer.quote
    where, columns = quote(table.name), ", ".join(map(quote, names))
    if dialect.name == "postgresql":
        source = f"SELECT {columns} FROM json_populate_recordset(NULL::{where}, %s)"
    else:
        source = f"VALUES ({', '.join('?' * len(names))})"
    return f"INSERT INTO {where} ({columns}) {source}", [(name, _convert(table.c[name], dialect)) for name in names]


def _convert(column: Column[Any], dialect: Dialect) -> Convert | None:
    """What makes a value fit to be sent; None: it is as it is."""
    if isinstance(column.type, String | AutoString):
        return lambda text: text and storable(text)
    in_json = dialect.name == "postgresql"
    if in_json and isinstance(column.type, LargeBinary):
        return lambda data: "\\x" + data.hex()
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    if isinstance(column.type, JSON):
        return storable_within if in_json or process is None else lambda value: process(storable_within(value))
    return process
