"""Counting the bytes of tensors as they are made and let go, on any device: on the CPU, where the system's figures are coarse, and on meta
tensors, which have a shape and no memory.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Bytes of the tensors made since it was entered: `now`, and `peak` at their most. A gauge for a stopwatch too.

    What a kernel takes for itself meanwhile is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def settle(self) -> None:
        """Tensors are made when the call returns."""

    def take_peak(self) -> int:
        """The most bytes held since the last call."""
        found, self.peak = self.peak, self.now
        return found

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf.untyped_storage(), given)
        return made

    def _see(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        if storage._cdata in self._known or storage._cdata in given:
            return
        size = storage.nbytes()
        self._known.add(storage._cdata)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._let_go, storage._cdata, size)

    def _let_go(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size
