"""The logits of response tokens without holding them: hidden states, and the head that turns any few of them into logits.

At a vocabulary of 151,936 the logits of 131,072 tokens are 37 GiB in bfloat16; the hidden states of an 8B model are 1 GiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from opcod.distillation.packing import can_pack, pack, packed_logits
from opcod.distillation.scoring import pad, response_logits, supported_arguments

WHOLE_LOGITS = 2**25
"""Up to so many logits (tokens x vocabulary) are held as they are: computing them again would cost more than they do."""
PROBE_LIMIT = 1000.0
"""Logits that no cap or scale leaves as they are, and that bfloat16 holds."""


@dataclass(frozen=True, slots=True)
class Readout:
    """Logits [N, V] of N tokens: `features` [N, H] read out by a linear head, or, without one, `features` [N, V] themselves.

    `weight` is [V, H], `bias` [V]. No temperature applied.
    """

    features: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def vocabulary(self) -> int:
        return self.features.shape[-1] if self.weight is None else self.weight.shape[0]

    def logits(self) -> Tensor:
        """[N, V], in the model's precision."""
        return self.features if self.weight is None else linear(self.features, self.weight, self.bias)

    def part(self, tokens: slice) -> Readout:
        """Those of some tokens."""
        return Readout(self.features[tokens], self.weight, self.bias)


def response_readout(model: nn.Module, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, pad_id: int) -> Readout:
    """What predicts each response token after its prompt, [N, ...] with N = all response tokens, row after row and without padding.

    What prompts share is computed once, where the model can be put through a packed row; else rows are padded. Where the logits are many
    and the model's output is nothing but a linear head, they are left to be read out by parts.
    """
    tokens = sum(map(len, responses))
    head = plain_head(model) if _many(model, tokens) else None
    with nullcontext() if head is None else _answering(head, lambda hidden: hidden):
        features = _outputs(model, prompts, responses, pad_id)
    return Readout(features) if head is None else Readout(features, head.weight, head.bias)


def _outputs(model: nn.Module, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    given: Any = model
    if can_pack(model):
        return packed_logits(model, pack(prompts, responses, device=given.device))
    batch = pad(prompts, responses, pad_id=pad_id, device=given.device)
    return batch.tokens_of(response_logits(model, batch))


def plain_head(model: nn.Module) -> nn.Linear | None:
    """The linear layer whose output is the model's logits as it is; None for a model that does more with it, such as capping
    or scaling (Gemma 2, Cohere, Granite), or whose layer is more than linear (an adapter on it, a quantised one).
    """
    if model not in _plain_heads:
        head = _output_layer(model)
        _plain_heads[model] = head is not None and _is_last(model, head)
    return _output_layer(model) if _plain_heads[model] else None


_plain_heads: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _many(model: nn.Module, tokens: int) -> bool:
    head = _output_layer(model)
    return head is not None and tokens * head.weight.shape[0] > WHOLE_LOGITS


def _output_layer(model: nn.Module) -> nn.Linear | None:
    given: Any = model
    bare: Any = given.get_base_model() if hasattr(model, "get_base_model") else given
    layer = bare.get_output_embeddings() if hasattr(bare, "get_output_embeddings") else None
    return layer if type(layer) is nn.Linear else None


@torch.no_grad()
def _is_last(model: nn.Module, head: nn.Linear) -> bool:
    """Let the head answer with logits of our own, and see whether the model hands them out untouched."""
    own = torch.linspace(-PROBE_LIMIT, PROBE_LIMIT, head.weight.shape[0], device=head.weight.device, dtype=head.weight.dtype)
    ids = torch.zeros((1, 2), dtype=torch.long, device=head.weight.device)
    was_training = model.training
    model.train(False)  # draws nothing at random
    try:
        with _answering(head, lambda hidden: own.expand(*hidden.shape[:-1], -1).clone()):
            logits = model(**supported_arguments(model, input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)).logits
    finally:
        model.train(was_training)
    return torch.equal(logits.float(), own.float().expand_as(logits))


@contextmanager
def _answering(head: nn.Linear, answer: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The head answers so meanwhile."""
    head.forward = answer  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del head.forward
