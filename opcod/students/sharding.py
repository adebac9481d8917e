"""Weights in parts, one a process, through torch's FSDP2 (`fully_shard`).

At rest a process holds its part of each weight, of its moments and of its moving average. While a model works its weights are
whole everywhere, and its gradients until they are summed: so the processes may make as many passes as each of them needs, and
agree only where they begin and end. FSDP2's usual way, which gathers a layer for each pass, would have them stop at every one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Keep this process's part of every weight of `model`, a layer at a time. What copies the model must come before."""
    layers = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for part in _parts(model):
        part.set_gradient_divide_factor(1.0)  # the loss is divided by the whole batch's tokens already
        part.set_force_sum_reduction_for_comms(True)
        part.set_reshard_after_forward(False)
        part.set_reshard_after_backward(False)
        part.set_reduce_scatter_unused_params(True)  # such as experts that no response came to in one of the processes
    with whole(model), torch.no_grad():
        model(**_one_token(model, 0))  # FSDP2 makes at the first pass what it lets be reset


def is_sharded(model: nn.Module) -> bool:
    """True for a model that `shard` was called on."""
    return isinstance(model, FSDPModule)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """The model's weights are whole meanwhile, in every process, and gradients add up in each. All of them must come here."""
    if not isinstance(model, FSDPModule):
        yield
        return
    model.set_requires_gradient_sync(False)
    model.set_is_last_backward(False)
    for part in _parts(model):
        part.unshard()
    try:
        yield
    finally:
        model.reset_iter_state()  # gives back all but the part, even where a pass was cut short


def sum_gradients(model: nn.Module, token: int) -> None:
    """Sum the gradients that the processes have kept, each of them taking its part; `token` is any token's id.

    The sum comes with a backward pass. This one is of a single token and adds nothing.
    """
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(True)
    model.set_is_last_backward(True)
    output: Any = model(**_one_token(model, token))
    (output.logits.sum() * 0).backward()


def complete(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be in parts; all processes must ask for it."""
    if not isinstance(tensor, DTensor):
        return tensor
    found: Tensor = tensor.full_tensor()
    return found


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy on the CPU. Of a tensor in parts the first process gets the whole and the others nothing; all must ask."""
    found = complete(tensor.detach())
    if isinstance(tensor, DTensor) and tensor.device_mesh.get_rank() > 0:
        return found.new_empty(0, device="cpu")
    return found.to("cpu", copy=True)


def as_part(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as this process holds it: on `like`'s device, and in parts if `like` is. Each process has the whole of it."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    part: Tensor = distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
    return part


def _one_token(model: nn.Module, token: int) -> dict[str, Any]:
    return {"input_ids": torch.tensor([[token]], device=next(model.parameters()).device), "use_cache": False}


def _parts(model: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in model.modules() if isinstance(module, FSDPModule))
