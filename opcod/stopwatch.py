"""How long each part of a piece of work takes, and how much of its work is padding.

The code that does the work names its parts (`part`) and counts its tokens (`count`); both do next to nothing unless a
stopwatch runs in the calling context.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol


class Gauge(Protocol):
    """What is read at the border of two parts, where figures must be exact."""

    def settle(self) -> None:
        """Wait until the device has done what it was given."""

    def take_peak(self) -> int | None:
        """The most bytes held since the last call; None where that cannot be told."""


@dataclass(slots=True)
class Part:
    """A part of the work, with those it is made of."""

    name: str
    seconds: float = 0.0
    """Of all its own parts too."""
    tokens: int = 0
    """That went through a model in this part."""
    padding: int = 0
    """Positions that went through the model beside them and count for nothing."""
    peak_bytes: int | None = None
    parts: dict[str, Part] = field(default_factory=dict)

    def add(self, other: Part) -> None:
        """Take in the same part, done once more."""
        self.seconds += other.seconds
        self.tokens += other.tokens
        self.padding += other.padding
        self.see_peak(other.peak_bytes)
        for name, part in other.parts.items():
            if name in self.parts:
                self.parts[name].add(part)
            else:
                self.parts[name] = part

    def see_peak(self, peak_bytes: int | None) -> None:
        if peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, peak_bytes)


class Stopwatch:
    """Measures parts inside parts; a part that recurs in the same place adds up."""

    def __init__(self, gauge: Gauge | None = None) -> None:
        self.whole = Part("whole")
        self._open = [self.whole]
        self._gauge = gauge

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """Measure a part; what is inside it is there to read when its own parts have ended."""
        outer, inner = self._open[-1], Part(name)
        self._look(outer)
        started = time.perf_counter()
        self._open.append(inner)
        try:
            yield inner
        finally:
            self._look(inner)
            self._open.pop()
            inner.seconds = time.perf_counter() - started
            outer.see_peak(inner.peak_bytes)
            if name in outer.parts:
                outer.parts[name].add(inner)
            else:
                outer.parts[name] = inner

    def count(self, tokens: int, padding: int) -> None:
        self._open[-1].tokens += tokens
        self._open[-1].padding += padding

    def _look(self, part: Part) -> None:
        if self._gauge is not None:
            self._gauge.settle()
            part.see_peak(self._gauge.take_peak())


_running: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def measuring(stopwatch: Stopwatch) -> Iterator[Stopwatch]:
    """Let `stopwatch` measure what is done meanwhile in this context."""
    token = _running.set(stopwatch)
    try:
        yield stopwatch
    finally:
        _running.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """What is done inside is this part of the work."""
    stopwatch = _running.get()
    if stopwatch is None:
        yield
    else:
        with stopwatch.part(name):
            yield


@contextmanager
def measured(name: str) -> Iterator[Part]:
    """As `part`, and measured even where no stopwatch runs."""
    stopwatch = _running.get()
    if stopwatch is None:
        with measuring(Stopwatch()) as stopwatch, stopwatch.part(name) as found:
            yield found
    else:
        with stopwatch.part(name) as found:
            yield found


def count(tokens: int, padding: int = 0) -> None:
    """Tokens that go through a model in the current part, and the padding that goes with them."""
    stopwatch = _running.get()
    if stopwatch is not None:
        stopwatch.count(tokens, padding)
