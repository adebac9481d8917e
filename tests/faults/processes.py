"""Processes of a stage, found by a mark in their environment, which whatever they start inherits (Linux)."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
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

    @property
    def home(self) -> Path:
        """The home folder that it was given."""
        variables = dict(entry.partition("=")[::2] for entry in Path(f"/proc/{self.pid}/environ").read_text().split("\0"))
        return Path(variables["OPCOD_HOME"])

    @property
    def halted(self) -> bool:
        return _state(Path(f"/proc/{self.pid}")) == "T"

    @property
    def unread(self) -> int:
        """Bytes that wait at its standard input, a pipe."""
        with open(f"/proc/{self.pid}/fd/0", "rb", buffering=0) as pipe:
            return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

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
            if _state(folder) == "Z":
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, IndexError):
            continue
        process = Process(int(folder.name), _kind(command), command)
        if not kinds or process.kind in kinds:
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def gpu_memory_held(mark: str) -> list[str]:
    """What processes with this mark hold of a GPU's memory, where there is one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    told = subprocess.run(
        [program, "--query-compute-apps=pid,used_memory", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    ours = {process.pid for process in marked(mark)}
    return [f"GPU memory held: {line}" for line in told.stdout.splitlines() if line.split(",")[0].strip() in map(str, ours)]


def _state(folder: Path) -> str:
    """The letter by which the kernel tells what the process of this folder of /proc does."""
    return (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]


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
