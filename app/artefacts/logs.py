"""A run's log: in the store, in bounded parts that are named by their first byte, so that a cursor is a place in the whole log.

A store such as S3 cannot append, so the last part is written again as it grows. Where a log grew too long, parts in its
middle are gone; whoever reads across the gap is told how much was cut.
"""

from __future__ import annotations

import codecs
from contextlib import suppress
from dataclasses import dataclass

from app.artefacts.store import Store
from app.shapes import LogPart

FOLDER = "log"
"""In the run's folder."""
WHOLE = "log.txt"
"""Where earlier versions kept the log: its first part."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the log: `size` bytes from byte `start` on."""

    start: int
    size: int
    path: str
    """Relative to the run's folder."""

    @property
    def end(self) -> int:
        return self.start + self.size


def part_path(start: int) -> str:
    """Of the part that begins with byte `start`, relative to the run's folder; names sort as the numbers do."""
    return f"{FOLDER}/{start:015d}.txt"


def parts_among(sizes: dict[str, int]) -> list[Part]:
    """The log's parts, in order, among the files of a run's folder."""
    found = [Part(0, size, path) for path, size in sizes.items() if path == WHOLE]
    for path, size in sizes.items():
        folder, _, name = path.partition("/")
        stem, _, kind = name.partition(".")
        if folder == FOLDER and kind == "txt" and stem.isdecimal():
            found.append(Part(int(stem), size, path))
    return sorted(found, key=lambda part: part.start)


def list_parts(store: Store, run_folder: str) -> list[Part]:
    """The log's parts in the store, in order.

    Raises:
        StoreError
    """
    sizes = {f"{FOLDER}/{name}": size for name, size in store.sizes(f"{run_folder}/{FOLDER}").items()}
    if part_path(0) not in sizes:
        with suppress(FileNotFoundError):
            sizes[WHOLE] = store.size(f"{run_folder}/{WHOLE}")
    return parts_among(sizes)


def read(store: Store, run_folder: str, *, after: int | None, limit: int) -> LogPart:
    """At most `limit` bytes from byte `after` on, or the last ones where `after` is None; whole characters only.

    A log that is not there yet reads as empty.

    Raises:
        StoreError
    """
    limit = max(limit, 4)  # the longest character: every read gets on
    parts = list_parts(store, run_folder)
    size = parts[-1].end if parts else 0
    place = max(0, size - limit) if after is None else min(after, size)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, left = "", limit
    for part in parts:
        if left <= 0 or part.end <= place:
            continue
        if part.start > place:
            text += decoder.decode(b"", True) + f"\n[{part.start - place:,} bytes of the log were cut here]\n"
            decoder.reset()
            place = part.start
        raw = store.read(f"{run_folder}/{part.path}", place - part.start, min(part.size, place - part.start + left))
        text += decoder.decode(raw)
        place += len(raw)
        left -= len(raw)
        if len(raw) == 0:
            break  # it was cut meanwhile: the next look sees the gap
    unread = len(decoder.getstate()[0])  # a character whose end has not been written yet
    return LogPart(text=text, next_cursor=str(place - unread), size=size)
