"""What passes between the worker and its training process: the assignment, the wish to stop, the report.

The assignment is the first line on the training process's standard input, so that nothing of it shows
in a process list; ``stop`` is a later line; the end of the input means that the worker is gone.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from opcod.errors import ResourceError

STOP_LINE = "stop\n"
LOG_DESCRIPTOR = "OPCOD_LOG_DESCRIPTOR"
"""Environment: the open file where the training process's log lines go as JSON, besides the run's log."""
WORKER_VARIABLE = "OPCOD_WORKER"
"""Environment: the worker's name."""
DISK_FULL = os.EX_IOERR
"""Exit status of a training process that could not write its report."""


class Assignment(BaseModel):
    """One run to train, and the token that every write of it carries."""

    model_config = ConfigDict(frozen=True)

    run_id: int
    token: int
    folder: Path
    config: dict[str, Any]
    traceparent: str | None = None
    """The attempt's span, where runs are traced."""


class Report(BaseModel):
    """How a training process ended. `kind`, `message` and `advice` belong to ``failed``."""

    model_config = ConfigDict(frozen=True)

    token: int
    outcome: Literal["completed", "stopped", "failed", "lost"]
    kind: str = ""
    message: str = ""
    advice: str = ""

    def save(self, folder: Path) -> None:
        """Leave it for the worker, whole or not at all."""
        draft = folder / f"report-{self.token}.part"
        try:
            draft.write_text(self.model_dump_json(), encoding="utf-8")
            draft.replace(report_path(folder, self.token))
        finally:
            draft.unlink(missing_ok=True)


def report_path(folder: Path, token: int) -> Path:
    """Where attempt `token` leaves its report."""
    return folder / f"report-{token}.json"


def take_report(folder: Path, token: int) -> Report | None:
    """The attempt's report, removed from the folder; None where it left none."""
    path = report_path(folder, token)
    try:
        return Report.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    finally:
        path.unlink(missing_ok=True)


class StopRequest:
    """The training process's ear: a `StopSignal` that the worker, or SIGTERM, raises."""

    def __init__(self) -> None:
        self._asked = False

    def requested(self) -> bool:
        return self._asked

    def request(self) -> None:
        self._asked = True

    def listen(self, worker: TextIO) -> None:
        """Follow the worker's lines on a thread of its own, and SIGTERM; end this process group when the worker is gone."""
        signal.signal(signal.SIGTERM, lambda *_: self.request())
        signal.signal(signal.SIGHUP, lambda *_: end_group())
        threading.Thread(target=self._follow, args=(worker,), name="worker's wishes", daemon=True).start()

    def _follow(self, worker: TextIO) -> None:
        for line in worker:
            if line == STOP_LINE:
                self.request()
        end_group()


def end_group() -> None:
    """Kill this process and those that it started. What it has not made durable is made again after a resume."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


@contextmanager
def only_writer(folder: Path, *, patience_seconds: float = 20.0) -> Iterator[None]:
    """Keep the run's folder to this process: an earlier attempt may be dying still.

    Raises:
        ResourceError: another process holds the folder for longer than `patience_seconds`.
    """
    with open(folder / ".writer", "a") as lock:
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ResourceError(
                        f"An earlier training process still holds the run's folder {folder}.",
                        advice="End that process, then resume the run.",
                    ) from None
                time.sleep(0.05)
        yield
