"""LoRA adapters through peft: put on, saved apart from the base model, merged for export."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from opcod.config import AdaptersConfig
from opcod.errors import CheckpointError, ConfigError
from opcod.students.sharding import as_part, on_cpu

Model = TypeVar("Model", bound=nn.Module)


def add_adapters(model: PreTrainedModel, adapters: AdaptersConfig) -> PreTrainedModel:
    """`model` with fresh adapters as its only trainable weights (float32 even on a bfloat16 base).

    The first output equals the bare model's, since adapters start at zero. Their random half follows torch's
    global generator.

    Raises:
        ConfigError: `targets` names no module of the model.
    """
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=cast(int, adapters.alpha),
        lora_dropout=adapters.dropout,
        target_modules=adapters.targets,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers for `is_gradient_checkpointing`, which 5.23 has renamed
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
            # it sets this right by itself for GPT-2's transposed layers
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False", category=UserWarning)
            return cast(PreTrainedModel, get_peft_model(model, config))
    except ValueError as error:
        raise ConfigError(
            f"No adapter can be put on {adapters.targets!r}: {error}",
            advice="Use `all-linear`, or the names of linear modules of this model.",
            field="compute.adapters.targets",
        ) from error


def is_adapted(model: torch.nn.Module) -> bool:
    """True for a model that `add_adapters` returned."""
    return isinstance(model, PeftModel)


def copy_around_frozen(model: Model) -> Model:
    """A model of its own around the very same frozen weights: what can be trained is copied, and all that is not a weight."""
    shared = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
    return copy.deepcopy(model, shared)


def trainable_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable weights on the CPU: the adapters alone with LoRA, else everything. See `on_cpu`."""
    return {name: on_cpu(weight) for name, weight in model.named_parameters() if weight.requires_grad}


@torch.no_grad()
def load_trainable_state(model: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `trainable_state` took, bit for bit.

    Raises:
        CheckpointError: the names or shapes are not this model's.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if {name: tuple(weight.shape) for name, weight in weights.items()} != {name: tuple(tensor.shape) for name, tensor in state.items()}:
        raise CheckpointError(
            "The checkpoint's weights belong to another model or other adapters.", advice="Resume with the configuration that wrote it."
        )
    for name, weight in weights.items():
        weight.copy_(as_part(state[name], weight))


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A bare model with the adapters added into its weights; `model` itself stays as it is (without adapters it is returned)."""
    if not isinstance(model, PeftModel):
        return model
    return cast(PreTrainedModel, cast(PeftModel, copy.deepcopy(model)).merge_and_unload())


@torch.no_grad()
def bare_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each weight of the model that `merged` returns, to the bit; tied ones once.

    One after the other, so that no second model is made: a weight with an adapter is summed when it is its turn.
    """
    if not isinstance(model, PeftModel):
        yield from model.named_parameters()
        return
    peft: Any = model
    bare: nn.Module = peft.get_base_model()
    for name, weight in bare.named_parameters():
        if f".{peft.base_model.prefix}" in name:
            continue
        layer_name, adapted, rest = name.rpartition(".base_layer.")
        if not adapted:
            yield name, weight
            continue
        layer: Any = bare.get_submodule(layer_name)
        if rest == "weight":
            for adapter in layer.active_adapters:
                weight = (weight + layer.get_delta_weight(adapter)).to(weight.dtype)
        yield f"{layer_name}.{rest}", weight
