"""Responses scored in one row without padding, in which what prompts share stands once.

The row is a sequence of groups: a prefix, then the tails of all who begin with it, each the rest of a prompt and its response. Every
layer but attention computes each token by itself, and positions say where it stands in its own text. Attention sees, of a
tail's token, the prefix and the tail so far: `_attend`, which models call in place of their own while a row is put through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import repeat_kv

from opcod.distillation.scoring import supported_arguments
from opcod.generation.prefixes import prefix_groups
from opcod.generation.stretches import stretches
from opcod.stopwatch import count

ATTENTION = "opcod_packed"
HARMLESS = frozenset({"position_ids", "use_cache", "cache_position", "output_attentions", "output_hidden_states", "is_causal"})
"""What a model may tell its attention without meaning another kind of it."""


@dataclass(frozen=True, slots=True)
class Group:
    """`prefix` tokens, then tails of `tails` tokens each.

    Where tails differ in length, `padded` [R * T] are their tokens' places with padding to the longest, and `real` [all tails' tokens]
    where those stand among them. `mask` [T, prefix + T] is what a token of a padded tail may see; None where there is no prefix.
    """

    prefix: int
    tails: tuple[int, ...]
    padded: Tensor | None
    real: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Packed:
    """One row of N tokens: `input_ids` and `position_ids` [1, N]; `predicting` [responses' tokens] the places whose outputs predict
    the response tokens, row after row in the order given.
    """

    input_ids: Tensor
    position_ids: Tensor
    predicting: Tensor
    groups: tuple[Group, ...]


def packed_tokens(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> int:
    """Tokens that are computed for these, packed."""
    tails = sum(len(prompt) + len(response) - 1 for prompt, response in zip(prompts, responses, strict=True))
    return tails - sum(group.length * (len(group.rows) - 1) for group in prefix_groups(prompts))


def pack(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device) -> Packed:
    """Rows of prompt and response token ids as one. A response's last token is left out: it predicts nothing that is scored."""
    ids: list[int] = []
    positions: list[int] = []
    predicting: list[range] = [range(0)] * len(prompts)
    groups = []
    for shared in prefix_groups(prompts):
        prefix = shared.length if len(shared.rows) > 1 else 0
        ids += prompts[shared.rows[0]][:prefix]
        positions += range(prefix)
        tails = []
        for row in shared.rows:
            tail = [*prompts[row][prefix:], *responses[row][:-1]]
            ids += tail
            positions += range(prefix, prefix + len(tail))
            predicting[row] = range(len(ids) - len(responses[row]), len(ids))
            tails.append(len(tail))
        groups.append(_group(prefix, tuple(tails), device))
    place = torch.tensor([*chain.from_iterable(predicting)], device=device)
    return Packed(torch.tensor([ids], device=device), torch.tensor([positions], device=device), place, tuple(groups))


def _group(prefix: int, tails: tuple[int, ...], device: torch.device) -> Group:
    longest = max(tails)
    mask = torch.ones((longest, prefix + longest), dtype=torch.bool, device=device).tril(prefix) if prefix else None
    if min(tails) == longest:
        return Group(prefix, tails, None, None, mask)
    column, lengths = torch.arange(longest), torch.tensor(tails).unsqueeze(-1)
    starts = lengths.cumsum(0) - lengths
    padded = (starts + torch.minimum(column, lengths - 1)).flatten()  # padding repeats the last token, and nobody sees it
    return Group(prefix, tails, padded.to(device), (column < lengths).flatten().nonzero().squeeze(-1).to(device), mask)


def packed_logits(model: nn.Module, packed: Packed) -> Tensor:
    """Logits [N, V], in the model's precision, that predict the response tokens. No temperature applied."""
    count(packed.input_ids.numel())
    arguments = supported_arguments(
        model,
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        use_cache=False,
        logits_to_keep=packed.predicting,
    )
    with _attending(model, packed.groups):
        logits: Tensor = model(**arguments).logits[0]
    return logits if "logits_to_keep" in arguments else logits[packed.predicting]


def can_pack(model: nn.Module) -> bool:
    """Whether the model's outputs for a packed row are those of its texts alone.

    It must keep nothing but keys and values of all tokens (no window, no state), let its attention be replaced, and take positions;
    that no more stands in the way is tried out once.
    """
    if model not in _can_pack:
        _can_pack[model] = _keeps_all(model) and _same_as_alone(model)
    return _can_pack[model]


def recomputing() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For `torch.utils.checkpoint`'s `context_fn`: in the backward pass, attention sees what it saw in the forward pass."""
    running = _running.get()
    return nullcontext(), nullcontext() if running is None else _attending(*running)


class _OtherAttentionError(Exception):
    """The model's attention is more than this one."""


_can_pack: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_running: ContextVar[tuple[nn.Module, tuple[Group, ...]] | None] = ContextVar("packed", default=None)


@contextmanager
def _attending(model: nn.Module, groups: tuple[Group, ...]) -> Iterator[None]:
    """The model's attention goes by these groups meanwhile."""
    given: Any = model
    config = given.config
    own = config._attn_implementation
    token = _running.set((model, groups))
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = own
        _running.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention of a packed row, as transformers calls it: query [1, heads, N, D], key and value [1, key heads, N, D] to
    [1, N, heads, D].
    """
    running = _running.get()
    if running is None or attention_mask is not None or any(more[name] is not None for name in more.keys() - HARMLESS):
        raise _OtherAttentionError(f"{type(module).__name__} passes {sorted(more)}")
    groups = running[1]
    if query.shape[1] != key.shape[1] and query.device.type != "cpu":  # elsewhere a mask and fewer key heads have no fast kernel
        key, value = (repeat_kv(each, query.shape[1] // key.shape[1]) for each in (key, value))
    settings: dict[str, Any] = {"scale": scaling, "dropout_p": dropout, "enable_gqa": query.shape[1] != key.shape[1]}
    sizes = [size for group in groups for size in (group.prefix, sum(group.tails))]
    queries, keys, values = (each[0].transpose(0, 1).split(sizes) for each in (query, key, value))
    found = []
    for place, group in enumerate(groups):
        prefix, tails = 2 * place, 2 * place + 1
        if group.prefix:
            q, k, v = (each[prefix].transpose(0, 1).unsqueeze(0) for each in (queries, keys, values))
            found.append(scaled_dot_product_attention(q, k, v, is_causal=True, **settings)[0].transpose(0, 1))
        q = _apart(queries[tails], group)
        k, v = (_after(each[prefix], _apart(each[tails], group)) for each in (keys, values))
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        output = _attend_to_all(q, k, v, group.mask, **settings).transpose(1, 2).flatten(0, 1)
        found.append(output if group.real is None else output.index_select(0, group.real))
    return torch.cat(found).unsqueeze(0), None


def _attend_to_all(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any) -> Tensor:
    """Queries [R, heads, T, D] on keys and values [R, key heads, P + T, D] of which `mask` [T, P + T] tells those up to each."""
    if mask is None:
        return scaled_dot_product_attention(query, key, value, is_causal=True, **settings)
    found = [
        scaled_dot_product_attention(query[:, :, asking], key[:, :, seen], value[:, :, seen], attn_mask=mask[asking, seen], **settings)
        for asking, seen in stretches(query.shape[2], key.shape[2])
    ]
    return torch.cat(found, dim=2)


def _apart(tails: Tensor, group: Group) -> Tensor:
    """Tails one after the other [all their tokens, heads, D] as rows [R, T, heads, D]."""
    padded = tails if group.padded is None else tails.index_select(0, group.padded)
    return padded.view(len(group.tails), -1, *tails.shape[1:])


def _after(prefix: Tensor, tails: Tensor) -> Tensor:
    """[prefix, heads, D] before each of [R, T, heads, D]."""
    return torch.cat([prefix.expand(len(tails), -1, -1, -1), tails], dim=1) if len(prefix) else tails


AttentionInterface.register(ATTENTION, _attend)


def _keeps_all(model: nn.Module) -> bool:
    given: Any = model
    needed = supported_arguments(model, position_ids=None)
    return (
        bool(needed) and hasattr(given, "config") and all(type(layer) is DynamicLayer for layer in DynamicCache(config=given.config).layers)
    )


@torch.no_grad()
def _same_as_alone(model: nn.Module) -> bool:
    """Try two prompts that begin alike and one that does not, with responses of unequal length."""
    prompts, responses = [[1, 2, 3, 4, 5], [1, 2, 3, 6], [7, 8, 9]], [[7, 8], [9, 10, 11, 12], [1, 2, 3]]
    given: Any = model
    was_training = model.training
    model.train(False)  # draws nothing at random
    try:
        ours = packed_logits(model, pack(prompts, responses, device=given.device))
        alone = []
        for prompt, response in zip(prompts, responses, strict=True):
            ids = torch.tensor([[*prompt, *response]], device=given.device)
            logits = model(**supported_arguments(model, input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)).logits
            alone.append(logits[0, len(prompt) - 1 : -1])
    except _OtherAttentionError:
        return False
    finally:
        model.train(was_training)
    theirs = torch.cat(alone)
    return bool((ours - theirs).abs().max() <= theirs.abs().max() * torch.finfo(theirs.dtype).eps ** 0.5)
