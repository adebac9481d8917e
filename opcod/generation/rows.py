"""Rows of text under way in a model: what they have said so far, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from opcod.generation.attention import Seen, Shared
from opcod.generation.cache import growing

MOST_PLACES = 2
"""Times as many places as rows that groups may have: all have as many as the largest has rows."""


@dataclass(slots=True)
class Rows:
    """Rows under way.

    `logits` [B, V] of the next token and its `positions` [B]; the `mask` [B, W] of real tokens in the columns of the cache, which may
    have gaps on the left; and what groups of rows begin with, before those columns.
    """

    logits: Tensor
    positions: Tensor
    mask: Tensor
    cache: DynamicCache
    shared: Shared | None = None
    _gaps: bool = False
    """Whether any column that a row could see is none of its own."""

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, mask: Tensor) -> Tensor:
        """Make columns for new tokens, real where `mask` [B, T] says so; their positions [B, T]."""
        self.mask = torch.cat([self.mask, mask], dim=1)
        if mask.shape[1] == 1:  # one token each: all are real
            places = self.positions.unsqueeze(1)
            self.positions = self.positions + 1
            return places
        self._look()
        within = mask.cumsum(-1)
        places = (self.positions.unsqueeze(1) + within - 1).clamp(min=0)
        self.positions = self.positions + within[:, -1]
        return places

    def seen(self, tokens: int) -> Seen:
        """What the last tokens attend to."""
        if not self._gaps and (tokens == 1 or (self.mask.shape[1] == tokens and self.shared is None)):
            return Seen(self.shared, None)
        real = self.mask if self.shared is None else torch.cat([self.shared.mask[self.shared.owner], self.mask], dim=1)
        mask = real[:, None, None, :]
        if tokens == 1:
            return Seen(self.shared, mask)
        causal = torch.ones((tokens, real.shape[1]), dtype=torch.bool, device=real.device).tril(real.shape[1] - tokens)
        return Seen(self.shared, mask & causal)

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows, each with columns of its own."""
        self.cache.batch_select_indices(rows)
        self.logits, self.positions, self.mask = self.logits[rows], self.positions[rows], self.mask[rows]
        if self.shared is not None:
            self.shared.leave(self.shared.owner[rows])
        self._narrow()

    def leave(self, gone: Tensor) -> Tensor:
        """Let rows [B] go, others taking their places; which row stands where now. Their next logits are still to be computed."""
        places = torch.arange(len(gone), device=gone.device)
        kept = int((~gone).sum())
        if layers := growing(self.cache):
            targets, sources = places[:kept][gone[:kept]], places[kept:][~gone[kept:]]
            for layer in layers:
                layer.move(sources, targets, kept)
            order = places[:kept].clone()
            order[targets] = sources
        else:
            order = places[~gone]
            self.cache.batch_select_indices(order)
        self.positions, self.mask = self.positions[order], self.mask[order]
        if self.shared is not None:
            self.shared.leave(self.shared.owner[order])
        self._narrow()
        return order

    def share(self, owner: Tensor) -> None:
        """Rows that begin with all of what those here said: row i of `owner` [B] with that of row owner[i].

        They keep it together if that takes less memory than a copy for each, else each has its own.
        """
        groups, before = len(self), self.shared.mask.numel() if self.shared else 0
        width = self.mask.shape[1]
        together = groups * (width + (self.shared.width if self.shared else 0))
        places = groups * int(torch.bincount(owner, minlength=groups).max())
        if together >= before + len(owner) * width or places > MOST_PLACES * len(owner):
            self.select(owner)
            return
        self._own()
        taken = [layer.take() for layer in growing(self.cache)]
        self.shared = Shared([one.contiguous() for one, _ in taken], [one.contiguous() for _, one in taken], self.mask, owner)
        self.logits, self.positions, self.mask = self.logits[owner], self.positions[owner], self.mask.new_ones((len(owner), 0))

    def add(self, others: Rows) -> None:
        """Take in rows. Needs a growing cache."""
        if (self.shared is None) != (others.shared is None):
            self._own()
            others._own()
        width = max(self.mask.shape[1], others.mask.shape[1])
        self.logits = torch.cat([self.logits, others.logits])
        self.positions = torch.cat([self.positions, others.positions])
        self.mask = torch.cat([pad(rows.mask, (width - rows.mask.shape[1], 0)) for rows in (self, others)])
        for layer, other in zip(growing(self.cache), growing(others.cache), strict=True):
            layer.add(other, len(others))
        if self.shared is not None and others.shared is not None:
            self.shared.add(others.shared)
        self._look()

    def _own(self) -> None:
        """Give every row a copy of what it shares."""
        if self.shared is None:
            return
        for layer, keys, values in zip(growing(self.cache), self.shared.keys, self.shared.values, strict=True):
            if layer.is_initialized:
                keys, values = (self.shared.before(own, shared) for own, shared in zip(layer.take(), (keys, values), strict=True))
            else:
                keys, values = keys[self.shared.owner], values[self.shared.owner]
            layer.put(keys, values)
        self.mask = torch.cat([self.shared.mask[self.shared.owner], self.mask], dim=1)
        self.shared = None

    def _narrow(self) -> None:
        """Drop columns that no row uses any more."""
        if not self._gaps:
            return
        layers = growing(self.cache)
        unused = int(self.mask.any(dim=0).to(torch.uint8).argmax()) if layers and self.mask.shape[1] else 0
        if unused:
            self.mask = self.mask[:, unused:]
            for layer in layers:
                layer.drop(unused)
        self._look()

    def _look(self) -> None:
        self._gaps = not bool(self.mask.all()) or (self.shared is not None and not bool(self.shared.mask.all()))
