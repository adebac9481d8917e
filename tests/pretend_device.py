"""A device that is none: its tensors lie in the CPU's memory, but say that they lie elsewhere, and meet only their like.

A product that runs on GPUs is tested where there are none: what puts a tensor on the wrong device fails here as it would there, with all
values real. `with pretend_device():` and torch knows the device ``elsewhere:0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
aten = torch.ops.aten

MOVES = {aten._to_copy, aten.copy_}
"""What takes tensors from one device to another."""
INDEXES = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
"""Where CUDA lets indexes lie on the CPU."""


class There(Tensor):
    """A tensor elsewhere; what it holds is `held`."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=torch.device(NAME, 0)
        )
        made.held = held
        return made

    def __init__(self, held: Tensor) -> None:
        pass

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: Any) -> There:
        return There(inner["held"])

    def __deepcopy__(self, memo: dict[int, Any]) -> There:
        if id(self) not in memo:
            memo[id(self)] = There(self.held.clone()).requires_grad_(self.requires_grad)
        made: There = memo[id(self)]
        return made

    # What torch refuses to tell of subclasses, or what reads memory by its address: files are written so.
    def tolist(self) -> Any:
        return self.held.tolist()

    def storage(self) -> Any:
        return self.held.storage()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"There({self.held})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _call(function, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Sees operations that no tensor of `There` takes part in: those that make one."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(function, args, kwargs or {})


def _call(function: Any, arguments: Any, settings: Mapping[str, Any]) -> Any:
    """Do on the CPU what is asked for, if all tensors lie on one device."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"):  # as inference mode leaves them
        with _Everywhere():  # type: ignore[no-untyped-call]
            made = function.decompose(*arguments, **settings)
        if made is not NotImplemented:
            return made
    if function is aten._fused_sdp_choice.default:
        return torch.nn.attention.SDPBackend.MATH.value
    tensors = [each for each in tree_leaves((arguments, settings)) if isinstance(each, Tensor)]
    there = any(isinstance(each, There) for each in tensors)
    _check(function, tensors)
    if settings.get("device") is not None:
        there = torch.device(settings["device"]).type == NAME
        settings = {**settings, "device": torch.device("cpu")}
    made = function(*tree_map(_held, arguments), **tree_map(_held, settings))
    if function.overloadpacket is aten.copy_:
        return arguments[0]
    if not there or function is aten._local_scalar_dense.default:
        return made
    return return_and_correct_aliasing(
        function, arguments, settings, tree_map(lambda each: There(each) if isinstance(each, Tensor) else each, made)
    )


def _check(function: Any, tensors: list[Tensor]) -> None:
    """Raises RuntimeError where tensors of two devices meet, as CUDA does: but for single numbers, and indexes."""
    here = [each for each in tensors if not isinstance(each, There) and each.dim() > 0]
    if not here or len(here) == len(tensors) or function.overloadpacket in MOVES:
        return
    if function.overloadpacket in INDEXES and all(each.dtype in (torch.long, torch.bool) for each in here):
        return
    shapes = ", ".join(str(tuple(each.shape)) for each in here)
    raise RuntimeError(f"{function}: expected all tensors to be on the same device, but some are on the CPU: {shapes}")


def _held(each: Any) -> Any:
    return each.held if isinstance(each, There) else each


def announce() -> None:
    """Let torch know the device. Before a process computes its first gradient, or there will be none on the device."""
    if not hasattr(torch, NAME):
        module = SimpleNamespace(
            get_amp_supported_dtype=lambda: [torch.bfloat16],
            is_available=lambda: True,
            device_count=lambda: 1,
            current_device=lambda: 0,
            manual_seed_all=lambda seed: None,
            _is_in_bad_fork=lambda: False,
        )
        _setup_privateuseone_for_python_backend(NAME, backend_module=module)


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """The device, on which tensors can be made meanwhile."""
    announce()
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(..., device=...) copies from the CPU where it is seen
    try:
        with _Everywhere():  # type: ignore[no-untyped-call]
            yield torch.device(NAME, 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
