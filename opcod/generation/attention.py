"""Attention of rows that begin alike: what they share is kept once, and attended to once for all of them.

A row's keys are those that its group shares, then its own. While prompts are computed, the shared ones are put before each row's own for
one layer at a time; then, token by token, the queries of a whole group meet the shared keys in one product. One softmax goes over both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from opcod.generation.stretches import stretches

NAME = "opcod_groups"
"""Under which transformers knows this attention. It has no mask of that name, so that models leave masks to it."""


@dataclass(slots=True)
class Shared:
    """What groups of rows begin with.

    Of each layer the `keys` and `values` [G, heads, P, features], padded on the left where `mask` [G, P] is False; `owner` [B] is each
    row's group.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor
    owner: Tensor
    _slots: Tensor | None = field(default=None, init=False)
    """Where each row stands when every group has as many places as the largest has rows; None where that is their order."""
    _rows: Tensor | None = field(default=None, init=False)
    """And back: the row at each such place (any where there is none)."""

    def __post_init__(self) -> None:
        self.arrange()

    @property
    def width(self) -> int:
        return self.mask.shape[1]

    def arrange(self) -> None:
        """After the rows or groups have changed."""
        groups, rows = len(self.mask), len(self.owner)
        order = self.owner.argsort(stable=True)
        counts = torch.bincount(self.owner, minlength=groups)
        largest = int(counts.max())
        first = counts.cumsum(0) - counts
        within = torch.arange(rows, device=order.device) - first[self.owner[order]]
        slots = torch.empty_like(order)
        slots[order] = self.owner[order] * largest + within
        self._slots = self._rows = None
        if groups * largest != rows or not torch.equal(order, torch.arange(rows, device=order.device)):
            self._slots, self._rows = slots, slots.new_zeros(groups * largest)
            self._rows[slots] = torch.arange(rows, device=order.device)

    def grouped(self, values: Tensor) -> Tensor:
        """[B, heads, queries, X] of rows as [G * heads, places * queries, X] of groups."""
        _, heads, queries, features = values.shape
        values = values if self._rows is None else values.index_select(0, self._rows)
        return values.view(len(self.mask), -1, heads, queries, features).transpose(1, 2).reshape(len(self.mask) * heads, -1, features)

    def in_rows(self, values: Tensor, heads: int, queries: int) -> Tensor:
        """And back."""
        groups, features = len(self.mask), values.shape[-1]
        values = values.view(groups, heads, -1, queries, features).transpose(1, 2).reshape(-1, heads, queries, features)
        return values if self._slots is None else values.index_select(0, self._slots)

    def before(self, own: Tensor, shared: Tensor) -> Tensor:
        """The columns of each row's group [G, heads, P, features] before its own [B, heads, W, features]."""
        return torch.cat([shared[self.owner], own], dim=-2)

    def leave(self, owner: Tensor) -> None:
        """Keep the rows of `owner` [B], and the groups that still have any."""
        present = torch.unique(owner)
        if len(present) < len(self.mask):
            self.keys, self.values = [keys[present] for keys in self.keys], [values[present] for values in self.values]
            self.mask, owner = self.mask[present], torch.searchsorted(present, owner)
        self.owner = owner
        self.arrange()

    def add(self, others: Shared) -> None:
        """Take in groups with their rows; the narrower of the two is padded on the left."""
        width = max(self.width, others.width)
        mine, theirs = width - self.width, width - others.width
        self.owner = torch.cat([self.owner, others.owner + len(self.mask)])
        self.mask = torch.cat([pad(self.mask, (mine, 0)), pad(others.mask, (theirs, 0))])
        for held, added in ((self.keys, others.keys), (self.values, others.values)):
            for layer, other in enumerate(added):
                held[layer] = torch.cat([pad(held[layer], (0, 0, mine, 0)), pad(other, (0, 0, theirs, 0))])
        self.arrange()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tokens of a forward pass attend to: their group's columns, if any, then those in the cache.

    The mask [B, 1, T, P + W] is True where they do, None where they see everything before them.
    """

    shared: Shared | None
    mask: Tensor | None


_seen: ContextVar[Seen] = ContextVar("seen")


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, _: Tensor | None, scaling: float | None = None, **settings: Any
) -> tuple[Tensor, None]:
    """As transformers asks for it: queries [B, all heads, T, features] on the cache's keys and values; [B, T, all heads, features]."""
    seen, layer = _seen.get(), int(module.layer_idx)  # type: ignore[arg-type]
    shared = seen.shared
    if query.shape[2] > 1:
        if shared is not None:
            key, value = shared.before(key, shared.keys[layer]), shared.before(value, shared.values[layer])
        return _attend_to_all(module, query, key, value, seen.mask, scaling=scaling, **settings), None
    rows, all_heads, _one, features = query.shape
    heads, groups = key.shape[1], all_heads // key.shape[1]
    scale = features**-0.5 if scaling is None else scaling
    asked = query.reshape(rows, heads, groups, features)
    scores = _scores(asked.flatten(0, 1), key.flatten(0, 1), scale).view(rows, heads, groups, -1)
    if shared is not None:
        there = _scores(shared.grouped(asked), shared.keys[layer].flatten(0, 1), scale)
        scores = torch.cat([shared.in_rows(there, heads, groups), scores], dim=-1)
    if seen.mask is not None:
        scores.masked_fill_(~seen.mask, -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    own = weights if shared is None else weights[..., shared.width :]
    made = torch.bmm(own.flatten(0, 1), value.flatten(0, 1)).view(rows, heads, groups, -1)
    if shared is not None:
        there = torch.bmm(shared.grouped(weights[..., : shared.width]), shared.values[layer].flatten(0, 1))
        made += shared.in_rows(there, heads, groups)
    return made.view(rows, 1, all_heads, -1), None


def _attend_to_all(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any) -> Tensor:
    """Of many tokens a row, with torch's own attention; what they may see is at most all before them."""
    if mask is None:
        whole: Tensor = sdpa_attention_forward(module, query, key, value, None, **settings)[0]
        return whole
    found = [
        sdpa_attention_forward(module, query[:, :, asking], key[:, :, seen], value[:, :, seen], mask[:, :, asking, seen], **settings)[0]
        for asking, seen in stretches(query.shape[2], key.shape[2])
    ]
    return torch.cat(found, dim=1)


def _scores(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Of queries [N, Q, features] on keys [N, K, features]: [N, Q, K]."""
    nothing = queries.new_empty(())
    return torch.baddbmm(nothing, queries, keys.transpose(1, 2), beta=0, alpha=scale)


AttentionInterface.register(NAME, attend)


def attends_in_groups(model: PreTrainedModel) -> bool:
    """Whether the family lets its attention be exchanged, and would use torch's own, without anything that only its own code knows."""
    adapted: Any = getattr(model, "get_base_model", None)
    inner: Any = adapted() if adapted else model
    functions = getattr(sys.modules[type(inner).__module__], "ALL_ATTENTION_FUNCTIONS", None)
    return bool(inner._supports_attention_backend) and inner.config._attn_implementation == "sdpa" and functions is ALL_ATTENTION_FUNCTIONS


@contextmanager
def seeing(model: PreTrainedModel, seen: Seen) -> Iterator[None]:
    """Forward passes of `model` meanwhile attend to what `seen` says."""
    usual = model.config._attn_implementation
    token = _seen.set(seen)
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual
        _seen.reset(token)
