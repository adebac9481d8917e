"""Batched sampling with a transformers model on its own cache.

What prompts share is computed and kept once: a question for its n responses, and the beginning of prompts that begin alike. A row
leaves the batch when its turn ends, and responses that wait enter, so that time goes into live rows only.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opcod.errors import ResourceError
from opcod.generation.base import Generation, SamplingParams
from opcod.generation.prefill import Prefill
from opcod.generation.replay import SHORTEST, STRETCH, Recorder, ReplayedRows
from opcod.generation.rows import Rows
from opcod.generation.sampling import sample
from opcod.stopwatch import count, part

REFILL_AT = 0.5
"""Share of the batch that is still live when prompts that wait enter: a few large prefills cost less than many small ones."""
LEAVE_AT = 0.125
"""Share of rows whose turn has ended at which they leave a recorded batch, for which a new recording is made."""
LOOK_EVERY = 8
"""Tokens after which a recorded batch is looked at: between, the device need not wait for an answer."""

logger = logging.getLogger(__name__)


class TransformersEngine:
    """Samples from `model`; any token of `end_ids` ends a row.

    With a `recorder`, passes of one token are recorded and replayed, as far as the model's family allows it.

    Every row draws from its own stream of random numbers, so that what it says does not depend on
    which rows share its batch or when they leave it (up to floating point).
    """

    def __init__(
        self, model: PreTrainedModel, *, end_ids: Sequence[int], pad_id: int, recorder: Callable[[], Recorder] | None = None
    ) -> None:
        self.model = model
        self.end_ids = tuple(end_ids)
        self.prefill = Prefill(model, pad_id)
        self._recorder = recorder
        """Makes what records passes, for one `generate`."""
        self._fits: dict[SamplingParams, int] = {}
        """Responses for which memory sufficed, where it once did not."""

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seed: int,
        batch_size: int,
        share: Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        """See `opcod.generation.base.Engine`. Where memory does not suffice, responses under way are begun anew, half as many together.

        Raises:
            ResourceError: the device has no memory for a single response.
        """
        was_training = self.model.training
        self.model.train(False)
        room = min(max(1, batch_size // params.n) * params.n, self._fits.get(params, batch_size * params.n))
        places = range(len(prompts)) if share is None else share
        streams = _streams(len(prompts), params, seed)[list(places)].flatten(0, 1)
        recorder = self._recorder() if self._recorder and self.prefill.flexible else None
        sampling = _Sampling(self.prefill, self.end_ids, [prompts[place] for place in places], params, streams, room, recorder)
        try:
            made = sampling.run()
        finally:
            self.model.train(was_training)
        if sampling.recorder is None:
            self._recorder = None
        if sampling.room < room:
            self._fits[params] = sampling.room
        return [made[start : start + params.n] for start in range(0, len(made), params.n)]


def _streams(prompts: int, params: SamplingParams, seed: int) -> Tensor:
    """Random numbers of every response to every prompt, [prompts, n, max_new_tokens]."""
    return torch.rand((prompts, params.n, params.max_new_tokens), generator=torch.Generator().manual_seed(seed))


@dataclass(slots=True)
class _Batch:
    """Responses under way: which of all they are [B], how many tokens each has [B], and their rows."""

    live: Tensor
    lengths: Tensor
    rows: Rows

    def leave(self, gone: Tensor) -> Tensor:
        """Which rows stand in which place now."""
        order = self.rows.leave(gone)
        self.live, self.lengths = self.live[order], self.lengths[order]
        return order


class _Sampling:
    """All responses to some prompts, at most `room` at a time. Response i belongs to prompt i // n."""

    def __init__(
        self,
        prefill: Prefill,
        end_ids: Sequence[int],
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        streams: Tensor,
        room: int,
        recorder: Recorder | None,
    ) -> None:
        self.prefill, self.params, self.room, self.recorder = prefill, params, room, recorder
        self.prompts = [tuple(prompt) for prompt in prompts]
        self.device = prefill.model.device
        self.responses = len(prompts) * params.n
        self.streams = streams.to(self.device)
        self.ends = torch.tensor(tuple(end_ids), device=self.device)
        self.sampled: list[tuple[Tensor, Tensor, Tensor]] = []
        """Step by step: responses [B], the next token of each, and its log-probability."""
        self.ended: list[Tensor] = []
        # Prompts of similar length share a batch, the shortest first: less padding to compute and to keep.
        in_order = sorted(range(len(prompts)), key=lambda prompt: len(prompts[prompt]))
        self.waiting = deque(prompt * params.n + index for prompt in in_order for index in range(params.n))

    def run(self) -> list[Generation]:
        batch: _Batch | None = None
        while self.waiting or batch:
            try:
                with part("prefill"):
                    batch = self._enter(batch)
                with part("decode"):
                    batch = self._decode(batch)
            except torch.OutOfMemoryError:
                batch = None
                self._retreat()
        if not self.sampled:
            return []
        responses, tokens, log_probs = (torch.cat(column) for column in zip(*self.sampled, strict=True))
        order = responses.argsort(stable=True)
        tokens, log_probs, ends = tokens[order], log_probs[order], torch.bincount(responses).cumsum(0)
        finished = torch.isin(tokens[ends - 1], self.ends).tolist()
        said, scores, borders = tuple(tokens.tolist()), tuple(log_probs.tolist()), [0, *ends.tolist()]
        return [
            Generation(said[begin:end], scores[begin:end], done) for (begin, end), done in zip(pairwise(borders), finished, strict=True)
        ]

    def _enter(self, batch: _Batch | None) -> _Batch:
        """Fill the batch with responses that wait, all those to a prompt together where there is room."""
        n, free = self.params.n, self.room - (len(batch.live) if batch else 0)
        entering = [self.waiting.popleft() for _ in range(min(free // n * n or free, len(self.waiting)))]
        asked = [self.prompts[response // n] for response in entering]
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(asked))}
        rows = self.prefill([*places])
        self.prefill.repeat(rows, [places[prompt] for prompt in asked])
        live = torch.tensor(entering, device=self.device)
        if batch is None:
            return _Batch(live, torch.zeros_like(live), rows)
        batch.rows.add(rows)
        batch.live, batch.lengths = torch.cat([batch.live, live]), torch.cat([batch.lengths, torch.zeros_like(live)])
        return batch

    def _decode(self, batch: _Batch) -> _Batch | None:
        """Token by token, until every turn has ended (None), or so many that responses that wait should enter."""
        refill = self.room * REFILL_AT if self.waiting and self.prefill.flexible else 0
        while True:
            if self.recorder is not None and self._to_come(batch) >= SHORTEST and batch.rows.mask.shape[1] > 0:
                tokens, gone = self._replay(batch, self.recorder, refill)
            else:
                tokens, gone = self._say(batch)
            if bool(gone.any()):
                self.ended.append(batch.live[gone])
                if bool(gone.all()):
                    return None
                tokens = tokens[batch.leave(gone)]
            count(len(batch.live))
            self.prefill.extend(batch.rows, tokens.unsqueeze(-1))
            if len(batch.live) <= refill:
                return batch

    def _say(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """The next token of every row [B], and whose turn ends with it [B]."""
        tokens, log_probs = sample(batch.rows.logits, self.params, self.streams[batch.live, batch.lengths])
        self.sampled.append((batch.live, tokens, log_probs))
        batch.lengths = batch.lengths + 1
        return tokens, self._ends(tokens, batch.lengths)

    def _ends(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return torch.isin(tokens, self.ends) | (lengths >= self.params.max_new_tokens)

    def _to_come(self, batch: _Batch) -> int:
        """Tokens that have still to go through the model, of the row that may say most."""
        return self.params.max_new_tokens - int(batch.lengths.min()) - 1

    def _replay(self, batch: _Batch, recorder: Recorder, refill: float) -> tuple[Tensor, Tensor]:
        """Token after token of every row by a recorded pass; the last ones [B], and whose turn has ended by then [B].

        A row whose turn has ended goes on unheard, until many have: the device is asked only now and then, so that it need not wait.
        """
        columns, last = min(STRETCH, self._to_come(batch)), self.params.max_new_tokens - 1
        enough = max(1, min(len(batch.live) * LEAVE_AT, len(batch.live) - refill))
        gone = torch.zeros_like(batch.live, dtype=torch.bool)
        said: list[tuple[Tensor, Tensor, Tensor]] = []
        replayed = ReplayedRows(self.prefill, batch.rows, columns, recorder)
        while True:
            tokens, log_probs = sample(replayed.logits, self.params, self.streams[batch.live, batch.lengths.clamp(max=last)])
            said.append((tokens, log_probs, ~gone))
            batch.lengths = batch.lengths + ~gone
            gone = gone | self._ends(tokens, batch.lengths)
            if len(said) > columns or (len(said) % LOOK_EVERY == 0 and int(gone.sum()) >= enough):
                break
            replayed.extend(tokens)
        replayed.close()
        if not replayed.recordable:
            self.recorder = None
        all_tokens, log_probs, heard = (torch.stack(column) for column in zip(*said, strict=True))
        self.sampled.append((batch.live.expand(all_tokens.shape)[heard], all_tokens[heard], log_probs[heard]))
        count(int(heard[1:].sum()), int((~heard[1:]).sum()))
        return tokens, gone

    def _retreat(self) -> None:
        """Let the responses under way wait again, what they said forgotten, and half as many be under way from now on.

        Raises:
            ResourceError: there was one alone.
        """
        again = sorted(set(range(self.responses)) - set(self.waiting) - {one for ended in self.ended for one in ended.tolist()})
        if len(again) == 1:
            raise ResourceError(
                f"Out of memory while sampling a single response of up to {self.params.max_new_tokens} tokens.",
                advice="Lower the length of responses or prompts, or choose a smaller model or a larger device.",
                field="generation.batch_size",
            ) from None
        self.room = len(again) // 2
        logger.warning("Out of memory while sampling %d responses together; going on with %d.", len(again), self.room)
        forgotten = torch.tensor(again, device=self.device)
        kept = [(live, ~torch.isin(live, forgotten), rest) for live, *rest in self.sampled]
        self.sampled = [(live[stays], rest[0][stays], rest[1][stays]) for live, stays, rest in kept]
        self.waiting.extendleft(sorted(again, key=lambda response: len(self.prompts[response // self.params.n]), reverse=True))
