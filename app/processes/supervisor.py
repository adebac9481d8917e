"""Keeps a few programs running side by side: one log stream, restarts, one clean stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

from app.processes.lifeline import PARENT_VARIABLE

_TICK_SECONDS = 0.1
_SOON_SECONDS = 10.0
"""A program that ends sooner than this after its start counts as a failed start."""
_FAILED_STARTS = 5
_LONGEST_PAUSE_SECONDS = 8.0
_LAST_WORDS_SECONDS = 2.0
"""Something that left a program's session may hold its output open: it is not waited for longer."""


@dataclass(frozen=True)
class Program:
    """One program to keep running. It is asked to end by SIGTERM and killed `stop_seconds` later."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 5.0
    pass_fds: tuple[int, ...] = ()
    unsaid: str | None = None
    """Lines with this text are left out of the log stream."""


class _Child:
    def __init__(self, program: Program, say: Callable[[str, str], None]) -> None:
        self.program = program
        self._say = say
        self._failed_starts = 0
        self._next_start = 0.0
        self._started_at = 0.0
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone."""
        program = self.program
        self.process = subprocess.Popen(
            program.command,
            env={**os.environ, **program.environment, PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=program.pass_fds,
        )
        self._started_at = time.monotonic()
        self._reader = threading.Thread(target=self._read, args=(self.process,), name=f"log of {program.name}", daemon=True)
        self._reader.start()

    def watch(self) -> bool:
        """Start it again where it has ended, after a pause that grows with each failed start; False: give up."""
        if self.alive:
            return True
        now = time.monotonic()
        if self.process is not None:
            code = self.process.returncode
            self._failed_starts = self._failed_starts + 1 if now - self._started_at < _SOON_SECONDS else 0
            if self._failed_starts >= _FAILED_STARTS:
                self._say(
                    "opcod",
                    f"{self.program.name} ended {_FAILED_STARTS} times right after its start ({_ending(code)}); its lines above say why",
                )
                return False
            pause = min(_LONGEST_PAUSE_SECONDS, 0.25 * 2**self._failed_starts) if self._failed_starts else 0.0
            self._say("opcod", f"{self.program.name} ended unexpectedly ({_ending(code)}); starting it again")
            self.process, self._next_start = None, now + pause
        if now >= self._next_start:
            self.start()
        return True

    def stop(self, at_once: Callable[[], bool]) -> None:
        if self.process is None:
            return
        if self.alive:
            self.process.terminate()
            deadline = time.monotonic() + self.program.stop_seconds
            while self.alive and time.monotonic() < deadline and not at_once():
                time.sleep(_TICK_SECONDS / 2)
        if self.alive:
            self._say("opcod", f"{self.program.name} did not end in time and is killed")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # with whatever it left behind in its session
        self.process.wait()
        if self._reader is not None:
            self._reader.join(_LAST_WORDS_SECONDS)  # what it said last comes before the next one's stop

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if self.program.unsaid is None or self.program.unsaid not in line:
                    self._say(self.program.name, line.rstrip("\n"))


class Supervisor:
    """Runs programs in their order of start, and stops them in the reverse order.

    `run` returns 0 after a stop that was asked for (SIGINT, SIGTERM, `request_stop`) and 1 when a
    program could not be kept running. A second SIGINT or SIGTERM kills what is left at once.
    """

    def __init__(self, programs: Sequence[Program], say: Callable[[str, str], None] | None = None) -> None:
        self._width = max([len("opcod"), *(len(program.name) for program in programs)])
        self._print_line = say or self._print
        self._children = [_Child(program, self._print_line) for program in programs]
        self._stops = 0

    def say(self, line: str) -> None:
        """One line of the supervisor's own in the log stream."""
        self._print_line("opcod", line)

    def request_stop(self) -> None:
        self._stops += 1  # no lock: a signal handler calls this

    def run(self) -> int:
        """Block until stopped. Call it from the main thread: children are tied to the thread that starts them."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup
            numbers.append(signal.SIGHUP)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        code = 0
        try:
            while not self._stops:
                if not all(child.watch() for child in self._children):
                    code = 1
                    break
                time.sleep(_TICK_SECONDS)
        finally:
            self.say("stopping")
            asked = self._stops
            for child in reversed(self._children):
                child.stop(at_once=lambda: self._stops > max(asked, 1))
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.say("stopped")
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.request_stop()

    def _print(self, name: str, line: str) -> None:
        try:
            print(f"{name:<{self._width}} | {line}", flush=True)
        except (BrokenPipeError, ValueError):  # nobody reads any more; the programs go on
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
