"""What the programs log: one line each, for people or as JSON, with the request, run, attempt and worker that it belongs to.

The standard library's logging throughout; whoever knows what a piece of work belongs to says so::

    with log_context(run_id=3, attempt=7):
        log.info("claimed")   # ... run_id=3 attempt=7
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TextIO

from app.secrets.redaction import redact
from opcod.plain_text import harmless

LogFormat = Literal["text", "json"]

_context: ContextVar[Mapping[str, Any]] = ContextVar("log context", default=MappingProxyType({}))


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Every line logged within, on this thread or task, carries `fields`."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def configure_logging(form: LogFormat, stream: TextIO, *, level: str = "INFO", **fields: Any) -> None:
    """Send this process's log to `stream`; every line carries `fields`. Replaces what was configured before."""
    handler = make_handler(form, stream, **fields)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def make_handler(form: LogFormat, stream: TextIO, **fields: Any) -> logging.Handler:
    """A handler that writes lines of `form` to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(fields) if form == "json" else TextLines(fields))
    return handler


class JsonLines(logging.Formatter):
    """One JSON object a line: ``at level logger message``, the context's fields, and ``error`` with the traceback."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": moment, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        line |= {**self._fields, **_context.get()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))  # ASCII: nothing in a name or path can play with a terminal


class TextLines(logging.Formatter):
    """Time, level, name and message; the context's fields follow as ``name=value``.

    What a message or a traceback quotes can neither begin a line of its own nor play with a terminal.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        fields = {**self._fields, **_context.get()}
        line = " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in fields.items())])
        return _inset(line)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's own name)
        return FURTHER + _inset(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 (logging's own name)
        return FURTHER + _inset(stack_info)


FURTHER = "  | "
"""Begins every line of an entry but its first, so that none can be taken for another entry."""


def _inset(text: str) -> str:
    return harmless(text, keep="\n\t").replace("\n", f"\n{FURTHER}")
