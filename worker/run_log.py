"""Writes a run's log on this machine and ships it to the store. No write here ever ends or holds up the training.

What the training process says comes through a pipe, so that a full disk, a log that grew too long, and a store that is
away are the worker's to deal with: what cannot be written is counted, and the log says so once it can.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from app.artefacts.logs import Part, part_path, parts_among
from app.artefacts.store import Store

log = logging.getLogger(__name__)

PART_BYTES = 256 * 1024
"""A part is closed at the first line end beyond this size: a growing part is shipped as a whole."""


class RunLog:
    """The log of one run, from this worker's hold on it. Safe to use from several threads.

    `shipped` is what the store holds of the run's log (path -> bytes; empty without a store): the log goes on after it.
    Where it takes more than `most_bytes`, the oldest parts but the very first are deleted.
    """

    def __init__(self, folder: Path, shipped: Mapping[str, int], *, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        self._lock = threading.Lock()
        self._shipped = dict(shipped)
        self._removed: list[str] = []
        here, there = parts_among(_sizes(folder)), parts_among(self._shipped)
        last = here[-1] if here else Part(0, 0, part_path(0))
        if there and (there[-1].start, there[-1].end) > (last.start, last.end):  # another machine has gone on with it
            last, here = Part(there[-1].end, 0, part_path(there[-1].end)), []
        elif last.path != part_path(last.start):  # an earlier version's log, as one file
            last = Part(last.end, 0, part_path(last.end))
        self._start, self._size, self._path = last.start, last.size, last.path
        self._mine = {part.path: part for part in here}
        self._at_line_end = True
        self._lost = 0
        self.fault: str | None = None
        """Why what was last said could not be written."""

    def say(self, text: str) -> None:
        """Write a line of the worker's own."""
        self.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')},000 INFO worker: {text}\n".encode())

    def write(self, data: bytes) -> None:
        """Append what was said; never raises."""
        if not data:
            return
        with self._lock:
            note = f"\n[{self._lost:,} bytes of the log could not be written here: {self.fault}]\n".encode() if self._lost else b""
            before = self._size
            try:
                self._append(note + data)
            except OSError as error:
                if self.fault is None:
                    log.warning("%s cannot be written: %s", self._folder / self._path, error)
                self.fault = error.strerror or str(error)
                written = self._size - before
                told = written >= len(note)
                self._lost = len(data) - (written - len(note)) if told else self._lost + len(data)
                return
            self._lost, self.fault = 0, None
            self._at_line_end = data.endswith(b"\n")
            if (self._size >= PART_BYTES and self._at_line_end) or self._size >= 4 * PART_BYTES:
                self._turn()

    def ship(self, store: Store, run_folder: str) -> None:
        """Bring the store's copy up to date.

        Raises:
            StoreError
        """
        with self._lock:
            grown = [part.path for part in self._parts() if self._shipped.get(part.path, 0) != part.size]
            gone = list(self._removed)
        for path in grown:
            try:
                data = (self._folder / path).read_bytes()
            except OSError:
                continue  # it was cut meanwhile
            store.put_bytes(data, f"{run_folder}/{path}")
            self._shipped[path] = len(data)
        store.remove([f"{run_folder}/{path}" for path in gone])
        with self._lock:
            self._removed = [path for path in self._removed if path not in gone]

    def _append(self, data: bytes) -> None:
        path = self._folder / self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            while data:
                written = os.write(descriptor, data)
                self._size += written
                data = data[written:]
        finally:
            os.close(descriptor)

    def _turn(self) -> None:
        """Close the part, begin the next, and let the oldest go where the log is too long."""
        self._mine[self._path] = Part(self._start, self._size, self._path)
        self._start, self._size = self._start + self._size, 0
        self._path = part_path(self._start)
        known = {**{part.path: part for part in parts_among(self._shipped)}, **self._mine}
        parts = sorted(known.values(), key=lambda part: part.start)
        total = sum(part.size for part in parts)
        for part in parts[1:]:  # how it began stays
            if total <= self._most:
                break
            total -= part.size
            self._mine.pop(part.path, None)
            if self._shipped.pop(part.path, None) is not None:
                self._removed.append(part.path)
            with suppress(OSError):
                (self._folder / part.path).unlink(missing_ok=True)

    def _parts(self) -> list[Part]:
        return [*(part for part in self._mine.values() if part.path != self._path), Part(self._start, self._size, self._path)]


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in (*folder.glob("log/*.txt"), *folder.glob("log.txt"))}
