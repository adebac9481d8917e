"""Prompts through the model: what two of them share is computed once.

Columns of a cache: a prefix padded on the left, then what follows it padded on the left. Where real tokens stand in a row
is told by the mask and by their positions, so that a gap between them changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from opcod.distillation.scoring import positions, supported_arguments
from opcod.generation.prefixes import PrefixGroup, prefix_groups
from opcod.stopwatch import count

SHARE_BELOW = 0.75
"""Prefixes are shared where that leaves at most this part of the positions to compute: a second pass has its price too."""


@dataclass(slots=True)
class Rows:
    """Rows under way: the `logits` [B, V] of the next token, the `mask` [B, width] of real tokens, and their cache."""

    logits: Tensor
    mask: Tensor
    cache: DynamicCache

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows, and drop columns that no row uses any more."""
        self.cache.batch_select_indices(rows)
        self.logits, self.mask = self.logits[rows], self.mask[rows]
        unused = int(self.mask.any(dim=0).to(torch.uint8).argmax())
        if unused and movable(self.cache):
            self.mask = self.mask[:, unused:]
            for layer in _layers(self.cache):
                layer.keys, layer.values = layer.keys[..., unused:, :], layer.values[..., unused:, :]

    def add(self, others: Rows) -> None:
        """Take in rows; the narrower of the two is padded on the left. Needs a movable cache."""
        width = max(self.mask.shape[1], others.mask.shape[1])
        mine, theirs = width - self.mask.shape[1], width - others.mask.shape[1]
        self.logits = torch.cat([self.logits, others.logits])
        self.mask = torch.cat([pad(self.mask, (mine, 0)), pad(others.mask, (theirs, 0))])
        for layer, other in zip(_layers(self.cache), _layers(others.cache), strict=True):
            layer.keys = torch.cat([pad(layer.keys, (0, 0, mine, 0)), pad(other.keys, (0, 0, theirs, 0))])
            layer.values = torch.cat([pad(layer.values, (0, 0, mine, 0)), pad(other.values, (0, 0, theirs, 0))])


def movable(cache: DynamicCache) -> bool:
    """Whether every layer keeps all columns: a sliding window is counted in columns, so that its rows must have no gaps."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


class Prefill:
    """Computes prompts with `model`."""

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        self.model = model
        self.pad_id = pad_id
        self.flexible = movable(DynamicCache(config=model.config)) and bool(supported_arguments(model, position_ids=None))
        """Rows may have gaps, and may join others that are under way."""

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
        nothing = torch.zeros((0, 0), device=self.model.device)
        rows = Rows(nothing, nothing.long(), DynamicCache(config=self.model.config))
        groups = self.plan(prompts)
        if groups is None:
            return self._texts(rows, prompts)
        self._texts(rows, [prompts[group.rows[0]][: group.length] for group in groups])
        found = {row: (place, group.length) for place, group in enumerate(groups) for row in group.rows}
        rows.select(torch.tensor([found[row][0] for row in range(len(prompts))], device=self.model.device))
        return self._texts(rows, [prompt[found[row][1] :] for row, prompt in enumerate(prompts)])

    def extend(self, rows: Rows, ids: Tensor, mask: Tensor | None = None) -> None:
        """Put the next tokens [B, T] of every row through the model; `mask` [B, T] where not all of them are real."""
        mask = torch.ones_like(ids) if mask is None else mask
        rows.mask = torch.cat([rows.mask, mask], dim=1) if rows.mask.numel() else mask
        arguments = supported_arguments(
            self.model,
            input_ids=ids,
            attention_mask=rows.mask,
            position_ids=positions(rows.mask)[:, -ids.shape[1] :],
            past_key_values=rows.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        rows.logits = self.model(**arguments).logits[:, -1].float()

    def _texts(self, rows: Rows, texts: Sequence[Sequence[int]]) -> Rows:
        """`rows`, each with its text after it; texts are padded on the left."""
        width = max(map(len, texts))
        ids = torch.tensor([[self.pad_id] * (width - len(text)) + list(text) for text in texts], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts], device=self.model.device)
        real = sum(map(len, texts))
        count(real, ids.numel() - real)
        self.extend(rows, ids, mask)
        return rows


def _layers(cache: DynamicCache) -> list[Any]:
    """Layers of a movable cache: `keys` and `values` [B, heads, width, features]."""
    return list(cache.layers)
