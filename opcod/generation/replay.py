"""Passes of a token a row that are recorded once and replayed: on a GPU it takes longer to ask for a small kernel than to run it.

Over a stretch of tokens the rows stay as many as they are, so that every pass reads and writes the same memory: a token's columns are made
before, and masked until it comes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch.nn.functional import pad

from opcod.generation.attention import Seen, seeing
from opcod.generation.cache import growing
from opcod.generation.prefill import Prefill
from opcod.generation.rows import Rows

STRETCH = 128
"""Most tokens of a stretch: recording takes about as long as two passes, and columns to come are attended to in vain."""
SHORTEST = 8
"""Tokens for which a recording pays."""
TOLERANCE = 0.02
"""Of the largest logit: by how much a replay may differ from the pass that was recorded. The same kernels should give the same."""

logger = logging.getLogger(__name__)

Work = Callable[[], None]


class Recorder(Protocol):
    """Takes down what a device is asked to do."""

    def record(self, work: Work) -> Work:
        """What does again, with whatever is in the same memory by then, what `work` asks of the device; nothing is done yet.

        Raises:
            RuntimeError: the work cannot be recorded, as it waits for the device.
        """


class CudaRecorder:
    """CUDA graphs. What a recording keeps between its kernels, the next one takes over: the latest alone may be replayed."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._latest: torch.cuda.CUDAGraph | None = None

    def record(self, work: Work) -> Work:
        """See `Recorder`. Other threads may use the device meanwhile; torch.cuda.graph would give its spare memory back each time."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        self._latest = graph
        return graph.replay


def recorder_of(device: torch.device) -> Callable[[], Recorder] | None:
    """What makes a recorder for a device, if it can record."""
    return partial(CudaRecorder, device) if device.type == "cuda" else None


class ReplayedRows:
    """`rows` over at most `columns` tokens that all of them take, until `close`; each must have a token in the cache."""

    def __init__(self, prefill: Prefill, rows: Rows, columns: int, recorder: Recorder) -> None:
        self._prefill, self._rows, self._recorder = prefill, rows, recorder
        before = rows.mask if rows.shared is None else torch.cat([rows.shared.mask[rows.shared.owner], rows.mask], dim=1)
        self._mask = pad(before, (0, columns))
        self._seen = Seen(rows.shared, self._mask[:, None, None, :])
        self._first, self._before = rows.mask.shape[1], before.shape[1]
        self._place = torch.tensor([self._first], device=before.device)
        self._positions = rows.positions.unsqueeze(1).clone()
        self._ids = torch.zeros_like(self._positions)
        self.logits = rows.logits
        self._columns, self._made = columns, 0
        self._replay: Work | None = None
        self.recordable = True
        """Whether passes can be recorded, as far as is known."""
        for layer in growing(rows.cache):
            layer.fix(self._place, columns)

    def extend(self, tokens: torch.Tensor) -> None:
        """Put the next token [B] of every row through the model; `logits` [B, V] are then those of the one to come."""
        self._ids.copy_(tokens.unsqueeze(-1))
        self._made += 1
        if self._replay is not None:
            self._replay()
            return
        self._pass()
        if self._made == 1:
            self._record()

    def close(self) -> None:
        """Let the rows go on without."""
        rows = self._rows
        rows.mask = self._mask[:, self._before - self._first : self._before + self._made]
        rows.positions, rows.logits = self._positions[:, 0], self.logits
        for layer in growing(rows.cache):
            layer.settle(self._columns - self._made)

    def _pass(self) -> None:
        """All of it on the device, and in the same memory each time."""
        self._mask.index_fill_(1, self._place + (self._before - self._first), True)
        with seeing(self._prefill.model, self._seen):
            logits = self._prefill.logits(self._ids, self._positions, self._rows.cache)
        self.logits.copy_(logits)
        self._positions += 1
        self._place += 1

    def _record(self) -> None:
        """Record the pass of the first token, which was just made, and hold the recording against it."""
        truth = self.logits.clone()
        try:
            replay = self._recorder.record(self._pass)
            self._back()
            self.logits.fill_(torch.nan)
            replay()
            if not bool((self.logits - truth).abs().max() <= TOLERANCE * truth.abs().max()):
                raise RuntimeError("replayed, it gives other logits")
        except RuntimeError as error:
            logger.warning("A pass of one token a row can't be recorded, and is computed each time anew: %s", error)
            self.recordable = False
            self._back()
            self._pass()
        else:
            self._replay = replay

    def _back(self) -> None:
        """Before the first token."""
        self._positions.copy_(self._rows.positions.unsqueeze(1))
        self._place.fill_(self._first)
