"""A cell as JSON and back, the same from either database: times in UTC, JSON as the text that stands there, bytes in Base64."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, Connection, DateTime, LargeBinary, MetaData, Table, Text, bindparam, cast
from sqlalchemy.sql.elements import ColumnElement


def reflected(connection: Connection) -> list[Table]:
    """The tables that the database has, each after those that it refers to."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def selected(column: Column[Any]) -> ColumnElement[Any]:
    """The column as it is read: JSON as its text, so that ``null`` in it stays different from nothing."""
    return cast(column, Text).label(column.name) if isinstance(column.type, JSON) else column


def bound(column: Column[Any], connection: Connection) -> ColumnElement[Any]:
    """The column's value as it is written."""
    if not isinstance(column.type, JSON):
        return bindparam(column.name, type_=column.type)
    value = bindparam(column.name, type_=Text())
    return cast(value, column.type) if connection.dialect.name == "postgresql" else value


def encode(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, datetime):
        return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def decoders(columns: Sequence[Column[Any]]) -> list[Callable[[Any], Any]]:
    """For each column, from JSON back to what the database takes."""
    return [_decoder(column) for column in columns]


def _decoder(column: Column[Any]) -> Callable[[Any], Any]:
    match column.type:
        case DateTime(timezone=True):
            return lambda value: None if value is None else datetime.fromisoformat(value)
        case DateTime():
            return lambda value: None if value is None else datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
        case LargeBinary():
            return lambda value: None if value is None else base64.b64decode(value)
    return lambda value: value
