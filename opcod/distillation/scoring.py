"""Scoring given responses after given prompts in padded rows, lined up by response position.

Models that can be put through a packed row go by `opcod.distillation.packing` instead. Prompts are padded on the left and
responses on the right, as in generation, so that the response's token t stands in the same column for every row whatever
its prompt: the same response scored after the student's and after the self-teacher's prompt gives logits that line up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from opcod.stopwatch import count


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded rows: prompt columns [0, prompt_width), response columns after them.

    `input_ids`, `attention_mask`, `position_ids` [B, prompt_width + T]; `responses`, `response_mask` [B, T]; `places` [N] of all
    response tokens in [B * T], row after row.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    responses: Tensor
    response_mask: Tensor
    places: Tensor
    tokens: int
    """Without the padding."""

    def tokens_of(self, columns: Tensor) -> Tensor:
        """[B, T, ...] of the response columns without their padding: [N, ...]."""
        return columns.flatten(0, 1).index_select(0, self.places)


def pad(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, pad_id: int, device: torch.device) -> Batch:
    """Rows of prompt and response token ids as one batch."""
    prompt_width = max(map(len, prompts))
    response_width = max(map(len, responses))
    rows, mask = [], []
    places: list[int] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        left, right = prompt_width - len(prompt), response_width - len(response)
        rows.append([pad_id] * left + [*prompt, *response] + [pad_id] * right)
        mask.append([0] * left + [1] * (len(prompt) + len(response)) + [0] * right)
        places.extend(range(row * response_width, row * response_width + len(response)))
    input_ids = torch.tensor(rows, device=device)
    attention_mask = torch.tensor(mask, device=device)
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=positions(attention_mask),
        responses=input_ids[:, prompt_width:],
        response_mask=attention_mask[:, prompt_width:].bool(),
        places=torch.tensor(places, device=device),
        tokens=sum(map(sum, mask)),
    )


def positions(attention_mask: Tensor) -> Tensor:
    """Position of every token among its row's real tokens, [B, L]; padding gets 0."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def response_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits [B, T, V], in the model's precision, that predict the response's token t at [:, t].

    The logits at a column predict the column after it, so the response's first token is predicted by
    the prompt's last. No temperature applied.
    """
    count(batch.tokens, batch.input_ids.numel() - batch.tokens)
    kept = batch.responses.shape[1] + 1
    logits: Tensor = model(
        **supported_arguments(
            model,
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=kept,
        )
    ).logits
    return logits[:, -kept:-1]


def supported_arguments(model: nn.Module, **arguments: Any) -> dict[str, Any]:
    """The arguments that the model's forward takes: a few families have no `position_ids` or `logits_to_keep`."""
    adapted = getattr(model, "get_base_model", None)
    known = _parameters(type(adapted() if adapted else model).forward)
    return {name: value for name, value in arguments.items() if name in known}


@cache
def _parameters(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def length_groups(prompt_lengths: Sequence[int], response_lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Row numbers in groups of similar length whose padded size stays within `max_tokens`; each row once.

    A single row longer than the limit forms a group of its own.
    """
    order = sorted(range(len(prompt_lengths)), key=lambda row: (response_lengths[row], prompt_lengths[row], row))
    group: list[int] = []
    widest_prompt = 0
    for row in order:
        widest = max(widest_prompt, prompt_lengths[row])
        if group and (len(group) + 1) * (widest + response_lengths[row]) > max_tokens:
            yield group
            group, widest = [], prompt_lengths[row]
        group.append(row)
        widest_prompt = widest
    if group:
        yield group
