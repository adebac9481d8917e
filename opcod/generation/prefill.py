"""Prompts through the model: what two of them share is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from opcod.distillation.scoring import supported_arguments
from opcod.generation.attention import attends_in_groups, seeing
from opcod.generation.cache import growing, new_cache
from opcod.generation.prefixes import PrefixGroup, prefix_groups
from opcod.generation.rows import Rows
from opcod.stopwatch import count

SHARE_BELOW = 0.9
"""Prefixes are shared where that leaves at most this part of the positions to compute: a second pass has its price too."""


class Prefill:
    """Computes prompts with `model`."""

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        self.model = model
        self.pad_id = pad_id
        takes_positions = bool(supported_arguments(model, position_ids=None))
        self.flexible = takes_positions and bool(growing(new_cache(model))) and attends_in_groups(model)
        """Rows may have gaps, may share what they begin with, and may join others that are under way."""

    def plan(self, prompts: Sequence[Sequence[int]]) -> list[PrefixGroup] | None:
        """The prefixes to share, or None where that does not pay."""
        if not self.flexible:
            return None
        groups = prefix_groups(prompts)
        prefix = max(group.length for group in groups)
        rest = max(len(prompts[row]) - group.length for group in groups for row in group.rows)
        shared, apart = len(groups) * prefix + len(prompts) * rest, len(prompts) * max(map(len, prompts))
        return groups if shared <= SHARE_BELOW * apart else None

    def __call__(self, prompts: Sequence[Sequence[int]]) -> Rows:
        """The rows of `prompts`, in their order."""
        groups = self.plan(prompts)
        if groups is None:
            return self._texts(self._empty(len(prompts)), prompts)
        rows = self._texts(self._empty(len(groups)), [prompts[group.rows[0]][: group.length] for group in groups])
        found = {row: (place, group.length) for place, group in enumerate(groups) for row in group.rows}
        self.repeat(rows, [found[row][0] for row in range(len(prompts))])
        return self._texts(rows, [prompt[found[row][1] :] for row, prompt in enumerate(prompts)])

    def repeat(self, rows: Rows, owners: Sequence[int]) -> None:
        """Let each of `owners` be a row that goes on from that one of `rows`."""
        if list(owners) == list(range(len(rows))):
            return
        owner = torch.tensor(owners, device=self.model.device)
        if self.flexible and len(owners) > len(rows):
            rows.share(owner)
        else:
            rows.select(owner)

    def extend(self, rows: Rows, ids: Tensor, mask: Tensor | None = None) -> None:
        """Put the next tokens [B, T] of every row through the model; `mask` [B, T] where not all of them are real."""
        positions = rows.take(torch.ones_like(ids, dtype=torch.bool) if mask is None else mask)
        if self.flexible:
            with seeing(self.model, rows.seen(ids.shape[1])):
                rows.logits = self.logits(ids, positions, rows.cache)
        else:
            rows.logits = self.logits(ids, positions, rows.cache, mask=rows.mask.long())

    def logits(self, ids: Tensor, positions: Tensor, cache: DynamicCache, mask: Tensor | None = None) -> Tensor:
        """[B, V] of the token after the last of `ids` [B, T], which stand at `positions` [B, T]; float32."""
        arguments = supported_arguments(
            self.model,
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = self.model(**arguments).logits[:, -1].float()
        return logits

    def _empty(self, rows: int) -> Rows:
        """Rows that have said nothing yet."""
        device = self.model.device
        positions = torch.zeros(rows, dtype=torch.long, device=device)
        return Rows(
            torch.zeros((rows, 0), device=device), positions, torch.ones((rows, 0), dtype=torch.bool, device=device), new_cache(self.model)
        )

    def _texts(self, rows: Rows, texts: Sequence[Sequence[int]]) -> Rows:
        """`rows`, each with its text after it; texts are padded on the left."""
        width = max(map(len, texts))
        ids = torch.tensor([[self.pad_id] * (width - len(text)) + list(text) for text in texts], device=self.model.device)
        mask = torch.tensor([[False] * (width - len(text)) + [True] * len(text) for text in texts], device=self.model.device)
        real = sum(map(len, texts))
        count(real, ids.numel() - real)
        self.extend(rows, ids, mask)
        return rows
