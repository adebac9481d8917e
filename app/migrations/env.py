"""Alembic's entry: runs the versions on the connection that `app.db.migrate` hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlmodel import AutoString

import app.access.tables
import app.webhooks.tables  # noqa: F401 (their tables stand in the same metadata)
from app.columns import BIG_INTEGER, UtcDateTime
from app.tables import metadata


def _render(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """How a new version writes our column types."""
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    if kind == "type" and isinstance(item, UtcDateTime):
        return "UtcDateTime()"
    return "BIG_INTEGER" if kind == "type" and item is BIG_INTEGER else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_item=_render,
    render_as_batch=True,  # SQLite alters a table by copying it
    compare_type=True,
    transactional_ddl=True,
)
context.run_migrations()
