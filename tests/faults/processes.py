"""Processes of a stage, found by a mark in their environment, which whatever they start inherits (Linux)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MARK = "OPCOD_TEST_STAGE"

Kind = Literal["up", "server", "worker", "training", "student", "broker", "other"]


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    kind: Kind
    command: str

    def signal(self, number: int) -> bool:
        """Whether it was there to get it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    def kill(self) -> bool:
        return self.signal(signal.SIGKILL)


def marked(mark: str, *kinds: Kind) -> list[Process]:
    """Live processes with this mark; of these kinds, where some are named."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            if (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, IndexError):
            continue
        process = Process(int(folder.name), _kind(command), command)
        if not kinds or process.kind in kinds:
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def _kind(command: str) -> Kind:
    words: dict[str, Kind] = {
        "worker.training_process": "training",
        "multiprocessing.spawn": "student",
        "valkey": "broker",
        "app.cli up": "up",
        "app.cli serve": "server",
        "-m worker": "worker",
        "app.cli worker": "worker",
    }
    return next((kind for word, kind in words.items() if word in command), "other")
