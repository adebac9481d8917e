"""How many tokens a pass of an update may compute: a number that stands, or as many as the device was measured to carry.

Beyond what stands, an update holds a part that its size does not change (gradients, the loss's chunk) and so many bytes for each token
of its largest micro-batch. Both are read off two updates: that of the largest micro-batch yet, and that of the smallest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

from opcod.errors import ResourceError
from opcod.estimation.memory import USABLE

logger = logging.getLogger(__name__)

GROWTH = 2
"""A micro-batch is at most so many times as large as the largest yet: what it takes is foretold from there, never from afar."""
APART = 1.1
"""Two micro-batches whose sizes differ by less tell nothing of a token: what else changes between two updates is as much."""


class MemoryGauge(Protocol):
    """A process's memory on its device, in bytes."""

    def held(self) -> int:
        """What is held now."""

    def free(self) -> int:
        """What could be held besides."""

    def take_peak(self) -> int:
        """The most that was held since the last call."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens of an update's largest micro-batch, and the bytes that the update held beyond what stood."""

    tokens: int
    bytes: int


class MicroBatchSize:
    """The limit of one student in one process. With a `gauge` it is learned, and `tokens` only the first; without, it is `tokens`.

    Either way memory that runs out lowers it for good.
    """

    def __init__(self, tokens: int, gauge: MemoryGauge | None = None) -> None:
        self._tokens = tokens
        self._gauge = gauge
        self._stood = 0
        self._ceiling: int | None = None
        self._least: Measured | None = None
        self._most: Measured | None = None

    def begin(self) -> int:
        """The most tokens of a pass in what begins now, with no gradients yet: an update, or the scoring before it."""
        if self._gauge is not None:
            self._gauge.take_peak()
            self._stood = self._gauge.held()
            if self._least and self._most:
                room = USABLE * (self._stood + self._gauge.free()) - self._stood
                self._tokens = max(1, min(GROWTH * self._most.tokens, _fitting(room, self._least, self._most)))
        if self._ceiling is not None:
            self._tokens = min(self._tokens, self._ceiling)
        return self._tokens

    def made(self, sizes: Iterable[int]) -> None:
        """Learn from the update that began last and has all its gradients. `sizes` are its micro-batches' tokens, read if need be."""
        if self._gauge is None or not (tokens := max(sizes, default=0)):
            return
        found = Measured(tokens, max(1, self._gauge.take_peak() - self._stood))
        if self._most is None or found.tokens >= self._most.tokens or found.bytes > self._most.bytes:
            self._most = found
        if self._least is None or found.tokens <= self._least.tokens:
            self._least = found

    def ran_out(self, sizes: Iterable[int]) -> None:
        """Memory ran out in the update that began last: from now on half of its largest micro-batch is the limit.

        Args:
            sizes: tokens of those micro-batches that hold more than one response.

        Raises:
            ResourceError: there are none.
        """
        largest = max(sizes, default=0)
        if not largest:
            raise ResourceError(
                "Out of memory in the update, with one response at a time.",
                advice="Turn on compute.gradient_checkpointing, use adapters, or shorten responses.",
                field="compute.micro_batch_tokens",
            ) from None
        self._ceiling = largest // 2
        logger.warning("Out of memory in the update: from now on micro-batches of at most %d tokens.", self._ceiling)

    def state(self) -> list[int]:
        """What was learned, as five whole numbers; all are 0 where it is nothing, and the limit the first."""
        nothing = Measured(0, 0)
        return [self._ceiling or 0, *astuple(self._least or nothing), *astuple(self._most or nothing)]

    def load_state(self, state: Sequence[int]) -> None:
        """Go on with what `state` was told to have been learned."""
        ceiling, *figures = state
        self._ceiling = ceiling or None
        self._least, self._most = (Measured(*pair) if pair[0] else None for pair in (figures[:2], figures[2:]))


def _fitting(room: float, least: Measured, most: Measured) -> int:
    """Tokens that `room` bytes carry: on the line through both measurements, or, where that is none, as if every byte were for a token."""
    rate = (most.bytes - least.bytes) / (most.tokens - least.tokens) if most.tokens >= APART * least.tokens else 0.0
    if rate <= 0:
        rate = most.bytes / most.tokens
    fixed = most.bytes - rate * most.tokens
    return int((room - fixed) / rate)
