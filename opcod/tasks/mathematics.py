r"""``\boxed{}`` mathematics, compared by math-verify in a process of its own.

math-verify hands the text to sympy, which a hostile formula (``9^{9^{9^9}}``) can keep busy for ever, deep
in C where no signal reaches it, and math-verify's own limits need the main thread. A child process with
a memory limit can be ended from outside; its answer then counts as wrong.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import queue
import re
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import IO

from opcod.errors import ConfigError
from opcod.types import Verification

MAX_EXPRESSION = 1000
"""Longest formula that is looked at, in characters."""
SECONDS_PER_ANSWER = 10.0
_SECONDS_TO_START = 120.0
_CHILD = Path(__file__).with_name("math_child.py")

_BOXED = re.compile(r"\\boxed\s{0,4}\{")


def last_boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}``, stripped; None where there is none, nothing in it, or it is never closed."""
    openings = [match.end() for match in _BOXED.finditer(text)]
    if not openings:
        return None
    depth = 1
    for end in range(openings[-1], min(len(text), openings[-1] + MAX_EXPRESSION + 1)):
        depth += {"{": 1, "}": -1}.get(text[end], 0) if text[end - 1] != "\\" else 0
        if depth == 0:
            return text[openings[-1] : end].strip() or None
    return None


class MathChecker:
    """A `Verifier` that keeps one child process, started at the first formula and started anew when it had to be ended."""

    def __init__(self, seconds: float = SECONDS_PER_ANSWER) -> None:
        """Starts nothing yet.

        Raises:
            ConfigError: math-verify is not installed.
        """
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("The verifier `math` needs math-verify, which is not installed.", advice="Run pip install math-verify.")
        self._seconds = seconds
        self._child: _Child | None = None

    def __call__(self, response: str, answer: str) -> Verification:
        """The last boxed formula of the response against the answer, which may be boxed or bare."""
        found = last_boxed(response)
        if found is None:
            return Verification(correct=False, extracted=None)
        reference = last_boxed(answer) or answer.strip()
        return Verification(correct=found == reference or self._equal(reference, found), extracted=found)

    def _equal(self, reference: str, found: str) -> bool:
        if self._child is None:
            self._child = _Child()
        reply = self._child.ask({"reference": reference, "found": found}, self._seconds)
        if reply is None:
            self._child.end()
            self._child = None
        return reply is True

    def __getstate__(self) -> dict[str, float]:
        """A copy in another process starts its own child."""
        return {"seconds": self._seconds}

    def __setstate__(self, state: dict[str, float]) -> None:
        self.__init__(state["seconds"])  # type: ignore[misc]


class _Child:
    """The process of `opcod.tasks.math_child`: a line of JSON in, a line out."""

    def __init__(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_forward, args=(process.stdout, self._replies), daemon=True).start()
        self.end = weakref.finalize(self, _end, process)
        if self._reply(_SECONDS_TO_START) != "ready":
            self.end()
            raise ConfigError("The verifier `math` could not start math-verify.", advice="Run `python -c 'import math_verify'` to see why.")

    def ask(self, request: dict[str, str], seconds: float) -> object:
        """The reply, None where the child died or did not reply in time."""
        try:
            self._stdin.write(json.dumps(request) + "\n")
            self._stdin.flush()
        except OSError:
            return None
        return self._reply(seconds)

    def _reply(self, seconds: float) -> object:
        try:
            line = self._replies.get(timeout=seconds)
        except queue.Empty:
            return None
        return json.loads(line) if line else None


def _forward(stdout: IO[str], replies: queue.SimpleQueue[str]) -> None:
    with stdout:
        for line in stdout:
            replies.put(line)
    replies.put("")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    process.wait()
