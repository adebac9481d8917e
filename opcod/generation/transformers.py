"""Batched sampling with a transformers model on its own cache.

What prompts share is computed once: a question for its n responses, and the beginning of prompts that begin alike. A row
leaves the batch when its turn ends, and responses to prompts that wait enter, so that time goes into live rows only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opcod.errors import ResourceError
from opcod.generation.base import Generation, SamplingParams
from opcod.generation.prefill import Prefill, Rows
from opcod.generation.sampling import sample
from opcod.stopwatch import count, part

COMPACT_AT = 0.125
"""Share of finished rows at which the cache is compacted; appending copies the cache at every step anyway."""
REFILL_AT = 0.5
"""Share of the batch that is still live when prompts that wait enter: a few large prefills cost less than many small ones."""


class TransformersEngine:
    """Samples from `model`; any token of `end_ids` ends a row.

    Every row draws from its own stream of random numbers, so that what it says does not depend on
    which rows share its batch or when they leave it (up to floating point).
    """

    def __init__(self, model: PreTrainedModel, *, end_ids: Sequence[int], pad_id: int) -> None:
        self.model = model
        self.end_ids = tuple(end_ids)
        self.prefill = Prefill(model, pad_id)

    @torch.no_grad()
    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, seed: int, batch_size: int) -> list[list[Generation]]:
        """See `opcod.generation.base.Engine`.

        Raises:
            ResourceError: the device has no memory for even the smallest batch.
        """
        was_training = self.model.training
        self.model.train(False)
        try:
            made = _Sampling(self.prefill, self.end_ids, prompts, params, seed, max(1, batch_size // params.n)).run()
        except torch.OutOfMemoryError:
            raise ResourceError(
                f"Out of memory while sampling {max(1, batch_size // params.n)} prompts with {params.n} responses each.",
                advice="Lower generation.batch_size or feedback.batch_size, or the response length.",
                field="generation.batch_size",
            ) from None
        finally:
            self.model.train(was_training)
        return [made[start : start + params.n] for start in range(0, len(made), params.n)]


@dataclass(slots=True)
class _Batch:
    """Responses under way: which of all they are [B], and their rows."""

    live: Tensor
    rows: Rows

    def select(self, kept: Tensor) -> None:
        self.live = self.live[kept]
        self.rows.select(kept)


class _Sampling:
    """All responses to some prompts, those of at most `room` prompts at a time. Response i belongs to prompt i // n."""

    def __init__(
        self, prefill: Prefill, end_ids: Sequence[int], prompts: Sequence[Sequence[int]], params: SamplingParams, seed: int, room: int
    ) -> None:
        self.prefill, self.params, self.room = prefill, params, room
        self.prompts = [tuple(prompt) for prompt in prompts]
        device = prefill.model.device
        responses = len(prompts) * params.n
        random = torch.Generator().manual_seed(seed)
        self.streams = torch.rand((responses, params.max_new_tokens), generator=random).to(device)
        self.ends = torch.tensor(tuple(end_ids), device=device)
        self.tokens = torch.zeros((responses, params.max_new_tokens), dtype=torch.long, device=device)
        self.log_probs = torch.zeros((responses, params.max_new_tokens), device=device)
        self.lengths = torch.zeros(responses, dtype=torch.long, device=device)
        # Prompts of similar length share a batch, the shortest first: less padding to compute and to keep.
        self.waiting = deque(sorted(range(len(prompts)), key=lambda prompt: len(prompts[prompt])))

    def run(self) -> list[Generation]:
        batch: _Batch | None = None
        while self.waiting or batch:
            with part("prefill"):
                batch = self._enter(batch)
            with part("decode"):
                batch = self._decode(batch)
        last = self.tokens.gather(1, (self.lengths - 1).unsqueeze(-1)).squeeze(-1)
        finished = torch.isin(last, self.ends).tolist()
        return [
            Generation(tuple(row[:length]), tuple(scores[:length]), done)
            for row, scores, length, done in zip(
                self.tokens.tolist(), self.log_probs.tolist(), self.lengths.tolist(), finished, strict=True
            )
        ]

    def _enter(self, batch: _Batch | None) -> _Batch:
        """Fill the batch with the responses of prompts that wait."""
        n = self.params.n
        room = self.room - (-(-len(batch.live) // n) if batch else 0)
        entering = [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]
        distinct = list(dict.fromkeys(self.prompts[prompt] for prompt in entering))
        places = {prompt: place for place, prompt in enumerate(distinct)}
        rows = self.prefill(distinct)
        live = torch.tensor([prompt * n + index for prompt in entering for index in range(n)], device=self.ends.device)
        rows.select(torch.tensor([places[self.prompts[prompt]] for prompt in entering for _ in range(n)], device=self.ends.device))
        if batch is None:
            return _Batch(live, rows)
        batch.rows.add(rows)
        batch.live = torch.cat([batch.live, live])
        return batch

    def _decode(self, batch: _Batch) -> _Batch | None:
        """Token by token, until every turn has ended (None), or so many that prompts that wait should enter."""
        running = torch.ones_like(batch.live, dtype=torch.bool)
        refill = self.room * self.params.n * REFILL_AT if self.waiting and self.prefill.flexible else 0
        while True:
            sampled = self._sample(batch, running)
            running = running & ~torch.isin(sampled, self.ends) & (self.lengths[batch.live] < self.params.max_new_tokens)
            alive = int(running.sum())
            if alive == 0:
                return None
            if alive <= (1 - COMPACT_AT) * len(running):
                kept = running.nonzero().squeeze(-1)
                batch.select(kept)
                sampled, running = sampled[kept], running[kept]
            count(alive, len(running) - alive)
            self.prefill.extend(batch.rows, sampled.unsqueeze(-1))
            if alive == len(running) and alive <= refill:
                return batch

    def _sample(self, batch: _Batch, running: Tensor) -> Tensor:
        """The next tokens [B], kept for the turns that have not ended."""
        live = batch.live
        places = self.lengths[live].clamp(max=self.params.max_new_tokens - 1)
        sampled, log_probs = sample(batch.rows.logits, self.params, self.streams[live, places])
        self.tokens[live[running], places[running]] = sampled[running]
        self.log_probs[live[running], places[running]] = log_probs[running]
        self.lengths[live[running]] += 1
        return sampled
