"""Batched sampling with a transformers model on its own cache.

A question's prompt is computed once and its cache repeated for the n responses. A row leaves the batch
when its turn ends: the cache is compacted as rows finish, so that time goes into live rows only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from opcod.distillation.scoring import positions, supported_arguments
from opcod.errors import ResourceError
from opcod.generation.base import Generation, SamplingParams
from opcod.stopwatch import count, part

COMPACT_AT = 0.125
"""Share of finished rows at which the cache is compacted; appending copies the cache at every step anyway."""


class TransformersEngine:
    """Samples from `model`; any token of `end_ids` ends a row.

    Every row draws from its own stream of random numbers, so that what it says does not depend on
    which rows share its batch or when they leave it (up to floating point).
    """

    def __init__(self, model: PreTrainedModel, *, end_ids: Sequence[int], pad_id: int) -> None:
        self.model = model
        self.end_ids = tuple(end_ids)
        self.pad_id = pad_id

    @torch.no_grad()
    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, seed: int, batch_size: int) -> list[list[Generation]]:
        """See `opcod.generation.base.Engine`.

        Raises:
            ResourceError: the device has no memory for even the smallest batch.
        """
        random = torch.Generator().manual_seed(seed)
        streams = torch.rand((len(prompts), params.n, params.max_new_tokens), generator=random)
        # Prompts of similar length share a batch: less padding to compute and to keep.
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        results: list[list[Generation]] = [[] for _ in prompts]
        per_batch = max(1, batch_size // params.n)
        was_training = self.model.training
        self.model.train(False)
        try:
            for start in range(0, len(order), per_batch):
                chosen = order[start : start + per_batch]
                made = self._batch([prompts[row] for row in chosen], params, streams[chosen].flatten(0, 1))
                for place, row in enumerate(chosen):
                    results[row] = made[place * params.n : (place + 1) * params.n]
        except torch.OutOfMemoryError:
            raise ResourceError(
                f"Out of memory while sampling {per_batch} prompts with {params.n} responses each.",
                advice="Lower generation.batch_size or feedback.batch_size, or the response length.",
                field="generation.batch_size",
            ) from None
        finally:
            self.model.train(was_training)
        return results

    def _batch(self, prompts: Sequence[Sequence[int]], params: SamplingParams, streams: Tensor) -> list[Generation]:
        device = self.model.device
        width = max(map(len, prompts))
        ids = torch.tensor([[self.pad_id] * (width - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        cache = DynamicCache(config=self.model.config)
        with part("prefill"):
            real = sum(map(len, prompts))
            count(real, ids.numel() - real)
            logits = self._forward(ids, mask, positions(mask), cache)
        if params.n > 1:
            cache.batch_repeat_interleave(params.n)
            mask = mask.repeat_interleave(params.n, dim=0)
            logits = logits.repeat_interleave(params.n, dim=0)
        with part("decode"):
            return self._decode(logits, mask, cache, params, streams)

    def _decode(self, logits: Tensor, mask: Tensor, cache: DynamicCache, params: SamplingParams, streams: Tensor) -> list[Generation]:
        """Token by token, from the logits [B, V] after the prompts whose mask [B, width] this is."""
        device = logits.device
        rows = logits.shape[0]
        ends = torch.tensor(self.end_ids, device=device)
        streams = streams.to(device)
        tokens = torch.full((rows, params.max_new_tokens), self.pad_id, device=device)
        log_probs = torch.zeros((rows, params.max_new_tokens), device=device)
        lengths = torch.full((rows,), params.max_new_tokens, device=device)
        live = torch.arange(rows, device=device)  # rows of the batch that the cache still holds
        running = torch.ones(rows, dtype=torch.bool, device=device)  # among `live`, those whose turn has not ended
        for step in range(params.max_new_tokens):
            sampled, log_prob = sample(logits, params, streams[live, step])
            tokens[live[running], step] = sampled[running]
            log_probs[live[running], step] = log_prob[running]
            ended = running & torch.isin(sampled, ends)
            lengths[live[ended]] = step + 1
            running = running & ~ended
            alive = int(running.sum())
            if alive == 0 or step + 1 == params.max_new_tokens:
                break
            if alive <= (1 - COMPACT_AT) * len(live):
                kept = running.nonzero().squeeze(-1)
                cache.batch_select_indices(kept)
                live, mask, sampled, running = live[kept], mask[kept], sampled[kept], running[kept]
            count(alive, len(live) - alive)
            mask = torch.cat([mask, mask.new_ones((len(live), 1))], dim=1)
            logits = self._forward(sampled.unsqueeze(-1), mask, positions(mask)[:, -1:], cache)
        finished = torch.zeros(rows, dtype=torch.bool, device=device)
        finished[:] = torch.isin(tokens.gather(1, (lengths - 1).unsqueeze(-1)).squeeze(-1), ends)
        return [
            Generation(tuple(row[:length]), tuple(scores[:length]), done)
            for row, scores, length, done in zip(tokens.tolist(), log_probs.tolist(), lengths.tolist(), finished.tolist(), strict=True)
        ]

    def _forward(self, ids: Tensor, mask: Tensor, position_ids: Tensor, cache: DynamicCache) -> Tensor:
        arguments = supported_arguments(
            self.model,
            input_ids=ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = self.model(**arguments).logits[:, -1]
        return logits.float()


def sample(logits: Tensor, params: SamplingParams, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Next tokens by inverse transform sampling.

    Args:
        logits: [B, V], fp32.
        params: temperature and nucleus.
        uniform: [B] numbers in [0, 1), one a row.

    Returns:
        token ids [B], and their log-probability [B] at the temperature before the nucleus (temperature 0: at 1).
    """
    if params.temperature == 0:
        log_probs = torch.log_softmax(logits, dim=-1)
        chosen = logits.argmax(dim=-1)
    else:
        log_probs = torch.log_softmax(logits / params.temperature, dim=-1)
        probabilities, ids = log_probs.exp(), None
        if params.top_p < 1:
            probabilities, ids = probabilities.sort(dim=-1, descending=True)
            # A token stays while the mass before it is below top_p: the first one always does.
            outside = probabilities.cumsum(dim=-1) - probabilities >= params.top_p
            outside[:, 0] = False
            probabilities = probabilities.masked_fill(outside, 0.0)
        cumulative = probabilities.cumsum(dim=-1)
        # Strictly below the total, so that the last token of probability 0 can't be reached by rounding.
        threshold = uniform.clamp(max=1 - 2**-23).unsqueeze(-1) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
        if ids is not None:
            chosen = ids.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    return chosen, log_probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
