"""A whole studio under `opcod up`, for tests: started in a fresh home on a free port, driven over REST, stopped in the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from app.client import Client

Found = TypeVar("Found")
ENDED = ("completed", "stopped", "failed")


def await_value(look: Callable[[], Found | None], *, seconds: float, what: str) -> Found:
    """The first value of `look` that is not None (or False), within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


def processes_of(home: Path) -> list[int]:
    """Live processes whose environment names this home (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue
        if b"OPCOD_HOME=" + os.fsencode(home) in environment and state != "Z":
            found.append(int(folder.name))
    return found


class Studio:
    """One running `opcod up`."""

    def __init__(self, process: subprocess.Popen[str], home: Path, log: Path) -> None:
        self.process, self.home, self._log = process, home, log
        pattern = re.compile(r"OPCoD Studio is up at (http://\S+)")

        def address() -> str | None:
            assert process.poll() is None, self.log
            match = pattern.search(self.log)
            return match.group(1) if match else None

        self.url = await_value(address, seconds=180, what="the studio's start")
        self.client = Client(self.url)

    @property
    def log(self) -> str:
        """Everything that the studio has said."""
        return self._log.read_text(encoding="utf-8")

    def run(self, run_id: int) -> dict[str, Any]:
        run: dict[str, Any] = self.client.request("GET", f"/runs/{run_id}")
        return run

    def await_run(self, run_id: int, is_so: Callable[[dict[str, Any]], bool], *, seconds: float, what: str) -> dict[str, Any]:
        """The run once `is_so`; fails at once where the run has failed instead."""

        def look() -> dict[str, Any] | None:
            run = self.run(run_id)
            if is_so(run):
                return run
            assert run["status"] != "failed", f"{run['error']}\n{self.run_log(run_id)}"
            return None

        return await_value(look, seconds=seconds, what=what)

    def await_end(self, run_id: int, *, seconds: float = 400) -> dict[str, Any]:
        return self.await_run(run_id, lambda run: run["status"] in ENDED, seconds=seconds, what="the run's end")

    def run_log(self, run_id: int) -> str:
        return str(self.client.request("GET", f"/runs/{run_id}/logs")["text"])

    @contextmanager
    def telling(self, run_id: int) -> Iterator[None]:
        """Within it an assertion that fails is told with what the studio and the run said."""
        try:
            yield
        except AssertionError as error:
            error.add_note(f"--- studio\n{self.log}\n--- run {run_id}\n{self.run_log(run_id)}")
            raise

    def child(self, module: str) -> int:
        """Process id of the studio's child that runs `python -m MODULE`."""
        for pid in processes_of(self.home):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if [b"-m", module.encode()] == command[1:3]:
                return pid
        raise ProcessLookupError(f"no {module} runs")

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 120) -> int:
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(timeout=seconds)


@contextmanager
def studio(home: Path, *arguments: str, **environment: str) -> Iterator[Studio]:
    """`opcod up` in `home`, ended in any case."""
    home.parent.mkdir(parents=True, exist_ok=True)
    log = home.parent / f"{home.name}.log"
    command = [sys.executable, "-m", "app.cli", "up", "--home", str(home), "--port", "0", *arguments]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment})
    up: Studio | None = None
    try:
        up = Studio(process, home, log)
        yield up
    finally:
        if up is not None:
            up.client.close()
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
