"""What student and self-teacher made of single tokens, looked at beside the loss. Nothing here touches gradients or draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from opcod.distillation.readout import Readout

CHUNK_LOGITS = 2**25
"""Logits that are widened to fp32 at a time."""
LOG_FLOOR = -100.0
"""Stands for log 0 on the record."""
LOG_DECIMALS = 3
PROBABILITY_DECIMALS = 4
LEAST_PROBABILITY = 0.001
"""Alternatives that are less likely than this for both are left out: most tokens have no real one."""

SeenAlternative = tuple[int, float, float]
"""Token id, probability for the student, probability for the self-teacher."""


@dataclass(frozen=True, slots=True)
class TokenView:
    """Of one response of T tokens: log-probabilities [T] of the sampled tokens at the sampling temperature, rounded, and the
    likely next tokens of both at each position, those that the self-teacher prefers first.
    """

    student: tuple[float, ...]
    teacher: tuple[float, ...]
    alternatives: tuple[tuple[SeenAlternative, ...], ...]


@torch.no_grad()
def view_tokens(
    student_readout: Readout,
    teacher_readout: Readout,
    responses: Sequence[Sequence[int]],
    alternatives: Sequence[int | None],
    *,
    temperature: float,
) -> list[TokenView | None]:
    """Look at the responses of a micro-batch, all at once: single ones are small, and would pay for every operation.

    Args:
        student_readout: of their N tokens, response after response, no temperature applied.
        teacher_readout: of the same tokens, after the self-teacher's prompts.
        responses: B times the sampled token ids.
        alternatives: [B], how many of each one's most likely next tokens; 0 for none, None: the response is not looked at.
        temperature: of the rollout sampler.

    Returns:
        [B], None for those that are not looked at.
    """
    views: list[TokenView | None] = [None] * len(responses)
    starts = [*accumulate(map(len, responses), initial=0)]
    chunk = max(1, CHUNK_LOGITS // student_readout.vocabulary)
    for count in {count for count in alternatives if count is not None}:
        rows = [row for row, asked in enumerate(alternatives) if asked == count]
        places = torch.tensor([place for row in rows for place in range(starts[row], starts[row + 1])], dtype=torch.long)
        sampled = torch.tensor([token for row in rows for token in responses[row]], dtype=torch.long)
        student: list[float] = []
        teacher: list[float] = []
        seen: list[tuple[SeenAlternative, ...]] = []
        for where, token in zip(places.split(chunk), sampled.split(chunk), strict=True):
            found = _look(student_readout, teacher_readout, where, token, temperature=temperature, count=count)
            student += found[0]
            teacher += found[1]
            seen += found[2]
        spans = pairwise(accumulate((len(responses[row]) for row in rows), initial=0))
        for row, (start, end) in zip(rows, spans, strict=True):
            views[row] = TokenView(tuple(student[start:end]), tuple(teacher[start:end]), tuple(seen[start:end]))
    return views


def _look(
    student: Readout, teacher: Readout, places: Tensor, sampled: Tensor, *, temperature: float, count: int
) -> tuple[list[float], list[float], list[tuple[SeenAlternative, ...]]]:
    """The columns of a view, of the tokens at some places."""
    device = student.features.device
    places, sampled = places.to(device), sampled.to(device).unsqueeze(-1)
    logits = [replace(one, features=one.features[places]).logits().float() / temperature for one in (student, teacher)]
    wholes = [each.logsumexp(dim=-1, keepdim=True) for each in logits]
    columns = [sampled, *(each.topk(min(count, each.shape[-1]), dim=-1).indices for each in logits)]
    ids = torch.cat(columns, dim=-1)
    p, q = (each.gather(-1, ids) - whole for each, whole in zip(logits, wholes, strict=True))
    log_probs = [_rounded(each[:, 0].clamp(min=LOG_FLOOR), LOG_DECIMALS).tolist() for each in (p, q)]
    return log_probs[0], log_probs[1], _alternatives(ids[:, 1:], p[:, 1:], q[:, 1:])


def _alternatives(ids: Tensor, p: Tensor, q: Tensor) -> list[tuple[SeenAlternative, ...]]:
    """Of [N, 2 K] token ids, the student's K before the self-teacher's, with their log-probabilities: each token once."""
    count = ids.shape[-1] // 2
    here, there = (_rounded(each.exp(), PROBABILITY_DECIMALS) for each in (p, q))
    shown = torch.maximum(here, there) >= LEAST_PROBABILITY
    shown[:, count:] &= (ids[:, count:, None] != ids[:, None, :count]).all(dim=-1)
    seen = [*zip(*(column[shown].tolist() for column in (ids, here, there)), strict=True)]
    ends = accumulate(shown.sum(dim=-1).tolist(), initial=0)
    return [tuple(sorted(seen[start:end], key=_preferred)) for start, end in pairwise(ends)]


def _preferred(one: SeenAlternative) -> tuple[float, float, int]:
    return -one[2], -one[1], one[0]


def _rounded(values: Tensor, decimals: int) -> Tensor:
    return values.double().round(decimals=decimals)
