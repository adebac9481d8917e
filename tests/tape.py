"""Records what a device is asked to do as CUDA graphs do, on a CPU: the operations alone, in the memory that they were done in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Step = tuple[Any, Any, Any, Any]
"""An operation, what it takes, its settings, and what it made when it was recorded."""


class TapeRecorder:
    """See `opcod.generation.replay.Recorder`. Python, shapes and numbers that are no tensors are what they were at the recording."""

    def __init__(self) -> None:
        self.recordings = 0
        self.replays = 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Raises RuntimeError where the work waits for the device, or takes something from another one."""
        tape = _Tape()
        try:
            with tape:
                work()
        finally:
            tape.undo()
        self.recordings += 1

        def replay() -> None:
            self.replays += 1
            tape.play()

        return replay


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        settings = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"):  # as inference mode leaves them
            with self:
                made = function.decompose(*args, **settings)
            if made is not NotImplemented:
                return made
        taken = _tensors((args, settings))
        masks = function.overloadpacket is not torch.ops.aten.index or any(each.dtype == torch.bool for each in taken[1:])
        if masks and {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(function.tags):
            raise RuntimeError(f"{function} waits for the device")
        schema = function._schema
        if schema.is_mutable:
            written = [each for each, told in zip(args, schema.arguments, strict=False) if told.alias_info and told.alias_info.is_write]
            self.overwritten += [(each, each.clone()) for each in written]
        made = function(*args, **settings)
        if len({each.device for each in (*taken, *_tensors(made)) if each.dim() > 0}) > 1:
            raise RuntimeError(f"{function} takes something from another device")
        places = {each.untyped_storage().data_ptr() for each in taken}
        if schema.is_mutable or not all(each.untyped_storage().data_ptr() in places for each in _tensors(made)):  # else it is a view
            self.steps.append((function, args, settings, made))
        return made

    def undo(self) -> None:
        """As if nothing had been done yet."""
        for tensor, before in reversed(self.overwritten):
            tensor.copy_(before)
        self.overwritten = []

    def play(self) -> None:
        for function, args, settings, before in self.steps:
            made = function(*args, **settings)
            for old, new in zip(_tensors(before), _tensors(made), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]
