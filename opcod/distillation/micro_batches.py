"""Which responses are scored together, by the tokens that are then computed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from opcod.distillation.packing import can_pack, packed_tokens
from opcod.distillation.scoring import length_groups

Prompts = Sequence[Sequence[int]]
"""One prompt a response."""


def questions(prompts: Prompts) -> list[list[int]]:
    """Row numbers of each prompt, in the order in which prompts first come."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        found.setdefault(tuple(prompt), []).append(row)
    return [*found.values()]


def micro_batches(model: nn.Module, passes: Sequence[Prompts], responses: Sequence[Sequence[int]], *, max_tokens: int) -> list[list[int]]:
    """Row numbers in groups of which no pass computes more than `max_tokens` tokens; each row once.

    Where rows are packed, those after the same prompt of the first pass stay together if they fit; where they are padded, groups
    are of similar length. A single row longer than the limit forms a group of its own.

    Args:
        model: that the first pass is put through; the others are of its kind.
        passes: prompts of the responses, in each pass.
        responses: token ids.
        max_tokens: padding included, in one pass.
    """
    if not can_pack(model):
        widest = [max(len(prompts[row]) for prompts in passes) for row in range(len(responses))]
        return [*length_groups(widest, [len(one) for one in responses], max_tokens=max_tokens)]
    found: list[list[int]] = []
    taken = [0] * len(passes)
    for question in questions(passes[0]):
        for rows in _fitting(question, passes, responses, max_tokens):
            added = _packed(rows, passes, responses)
            if found and max(map(sum, zip(taken, added, strict=True))) <= max_tokens:
                found[-1] += rows
                taken = [sum(pair) for pair in zip(taken, added, strict=True)]
            else:
                found.append(rows)
                taken = added
    return found


def computed_tokens(model: nn.Module, rows: Sequence[int], passes: Sequence[Prompts], responses: Sequence[Sequence[int]]) -> int:
    """Tokens that the largest pass computes for these rows, padding included."""
    if can_pack(model):
        return max(_packed(rows, passes, responses))
    widest = max(len(responses[row]) for row in rows)
    return max(len(rows) * (max(len(prompts[row]) for row in rows) + widest) for prompts in passes)


def _fitting(rows: list[int], passes: Sequence[Prompts], responses: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    """The rows whole, or in as many halves of halves as it takes."""
    if len(rows) == 1 or max(_packed(rows, passes, responses)) <= max_tokens:
        return [rows]
    half = len(rows) // 2
    return [*_fitting(rows[:half], passes, responses, max_tokens), *_fitting(rows[half:], passes, responses, max_tokens)]


def _packed(rows: Sequence[int], passes: Sequence[Prompts], responses: Sequence[Sequence[int]]) -> list[int]:
    """Computed tokens of each pass."""
    chosen = [responses[row] for row in rows]
    return [packed_tokens([prompts[row] for row in rows], chosen) for prompts in passes]
