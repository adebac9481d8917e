"""A run's log, read in bounded parts."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from app.shapes import LogPart

FILE_NAME = "log.txt"
"""In the run's folder; the worker writes it."""


def read(path: Path, *, after: int | None, limit: int) -> LogPart:
    """At most `limit` bytes from byte `after` on, or the last ones where `after` is None; whole characters only.

    A log that is not there yet reads as empty.
    """
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            start = max(0, size - limit) if after is None else min(after, size)
            log.seek(start)
            raw = log.read(limit)
    except FileNotFoundError:
        return LogPart(text="", next_cursor="0", size=0)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(raw)
    unread = len(decoder.getstate()[0])  # a character whose end has not been written yet
    return LogPart(text=text, next_cursor=str(start + len(raw) - unread), size=size)
