"""Where events go without a server: a JSON Lines file, or several sinks at once."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from opcod.errors import ResourceError
from opcod.events import EVENT, Event, EventSink


class JsonLinesSink:
    """Appends each event as a line of JSON; events that the file already holds are passed over.

    A half-written last line, left by a kill, is cut off first.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.last = _mend(path) if path.exists() else 0
        self._file = path.open("a", encoding="utf-8", buffering=1)  # by the line: others follow the file

    def emit(self, event: Event) -> None:
        if event.seq > self.last:
            self._file.write(event.model_dump_json() + "\n")
            self.last = event.seq

    def flush(self) -> None:
        """Down to the disk.

        Raises:
            ResourceError: the disk is full.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResourceError(
                f"{str(self.path)!r} cannot be written: {error.strerror}.", advice="Free space on the disk, then resume."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


class FanOut:
    """Gives every event to several sinks, in order."""

    def __init__(self, *sinks: EventSink) -> None:
        self.sinks = sinks

    def emit(self, event: Event) -> None:
        for sink in self.sinks:
            sink.emit(event)

    def flush(self) -> None:
        for sink in self.sinks:
            sink.flush()


def read_events(path: Path) -> list[Event]:
    """All events of a JSON Lines file."""
    with path.open(encoding="utf-8") as lines:
        return [EVENT.validate_json(line) for line in lines]


def _mend(path: Path) -> int:
    """Cut an unfinished last line off; returns the last event's number, 0 for an empty file."""
    with path.open("rb+") as file:
        end = last = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            last = EVENT.validate_json(line).seq
        file.truncate(end)
    return last
