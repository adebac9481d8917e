"""The keys and values of rows under way, written in place: a token costs its own bytes, and a row that leaves those of one other."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

SPARE = 32
"""Columns made at once for tokens to come: what is there already is copied once in so many tokens."""


class GrowingLayer(DynamicLayer):
    """`keys` and `values` [B, heads, width, features] are views of larger tensors that have room for more columns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor
        self.values: Tensor
        self._room: list[Tensor] = []
        self._begin = self._end = 0
        self._place: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take in the columns of new tokens; all columns."""
        if self._place is not None:
            self.keys.index_copy_(2, self._place, key_states)
            self.values.index_copy_(2, self._place, value_states)
            return self.keys, self.values
        if not self._room:
            # Most often a prompt's, which then is copied into its rows or kept as it is: no room is made for more yet.
            self.put(key_states, value_states)
            return self.keys, self.values
        added = key_states.shape[-2]
        self._widen(added, added + SPARE)
        rows, begin = key_states.shape[0], self._end
        self._end += added
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:rows, :, begin : self._end] = states
        self._view(rows)
        return self.keys, self.values

    def fix(self, place: Tensor, columns: int) -> None:
        """Until `settle`, show so many empty columns more, and put each token into the column that `place` [1] says by then.

        Empty ones are zeros: even what has no weight must be a number.
        """
        self._widen(columns, columns)
        rows, begin = self.keys.shape[0], self._end
        self._end += columns
        for room in self._room:
            room[:rows, :, begin : self._end] = 0
        self._view(rows)
        self._place = place

    def settle(self, empty: int) -> None:
        """Drop the last of the columns that `fix` has made, into which no token came."""
        self._end -= empty
        self._place = None
        self._view(self.keys.shape[0])

    def put(self, keys: Tensor, values: Tensor) -> None:
        """These instead of what was there."""
        self._room, self._begin, self._end = [keys, values], 0, keys.shape[-2]
        self.is_initialized = True
        self._view(keys.shape[0])

    def take(self) -> tuple[Tensor, Tensor]:
        """What was there, which is no longer."""
        taken = self.keys, self.values
        self._room = []
        self.reset()
        return taken

    def move(self, sources: Tensor, targets: Tensor, rows: int) -> None:
        """Put rows in the place of others, and keep the first `rows`."""
        if self.is_initialized:
            for held in (self.keys, self.values):
                if len(targets):
                    held[targets] = held[sources]
            self._view(rows)

    def drop(self, columns: int) -> None:
        """Leave out the first columns."""
        if self.is_initialized:
            self._begin += columns
            self._view(self.keys.shape[0])

    def add(self, other: GrowingLayer, rows: int) -> None:
        """Take in the other's rows, which may have no columns yet; the narrower of the two is padded on the left."""
        held = []
        for mine, their in ((self.keys, other.keys), (self.values, other.values)):
            theirs = mine.new_empty(rows, mine.shape[1], 0, mine.shape[3]) if their is None else their
            width = max(mine.shape[2], theirs.shape[2])
            joint = mine.new_zeros(len(mine) + rows, mine.shape[1], width + SPARE, mine.shape[3])
            joint[: len(mine), :, width - mine.shape[2] : width] = mine
            joint[len(mine) :, :, width - theirs.shape[2] : width] = theirs
            held.append(joint)
        self._room, self._begin, self._end = held, 0, held[0].shape[2] - SPARE
        self._view(len(held[0]))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep, repeat or reorder rows."""
        if self.is_initialized:
            self.put(self.keys[indices], self.values[indices])

    def _widen(self, columns: int, room: int) -> None:
        """See that so many columns more have room; if not, make it."""
        if self._end + columns > self._room[0].shape[-2]:
            self._begin, self._end = 0, self.keys.shape[-2]
            self._room = [_roomy(held, room) for held in (self.keys, self.values)]

    def _view(self, rows: int) -> None:
        self.keys, self.values = (room[:rows, :, self._begin : self._end] for room in self._room)


def _roomy(held: Tensor, columns: int) -> Tensor:
    """A copy with room for more columns."""
    rows, heads, width, features = held.shape
    room = held.new_empty(rows, heads, width + columns, features)
    room[:, :, :width] = held
    return room


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache as the family needs it, whose layers grow in place where they keep all columns."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def growing(cache: DynamicCache) -> list[GrowingLayer]:
    """The layers, if every one keeps all columns, else none: a sliding window is counted in columns, so that its rows must have no gaps."""
    layers = [layer for layer in cache.layers if isinstance(layer, GrowingLayer)]
    return layers if len(layers) == len(cache.layers) else []
