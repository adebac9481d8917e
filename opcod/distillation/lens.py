"""What student and self-teacher made of single tokens, looked at beside the loss. Nothing here touches gradients or draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opcod.distillation.readout import Readout

CHUNK_TOKENS = 256
"""Positions that are widened to fp32 at a time."""
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
    student_readout: Readout, teacher_readout: Readout, response: Sequence[int], *, temperature: float, alternatives: int
) -> TokenView:
    """Look at one response.

    Args:
        student_readout: of its T tokens, no temperature applied.
        teacher_readout: of the same tokens, after the self-teacher's prompt.
        response: T sampled token ids.
        temperature: of the rollout sampler.
        alternatives: how many of each one's most likely next tokens; 0 for none.
    """
    student: list[float] = []
    teacher: list[float] = []
    seen: list[tuple[SeenAlternative, ...]] = []
    for start in range(0, len(response), CHUNK_TOKENS):
        sampled = torch.tensor(response[start : start + CHUNK_TOKENS], device=student_readout.features.device).unsqueeze(-1)
        span = slice(start, start + len(sampled))
        p, q = (torch.log_softmax(one.part(span).logits().float() / temperature, dim=-1) for one in (student_readout, teacher_readout))
        student += _rounded(p.gather(-1, sampled).squeeze(-1).clamp(min=LOG_FLOOR), LOG_DECIMALS)
        teacher += _rounded(q.gather(-1, sampled).squeeze(-1).clamp(min=LOG_FLOOR), LOG_DECIMALS)
        seen += _alternatives(p, q, min(alternatives, p.shape[-1]))
    return TokenView(tuple(student), tuple(teacher), tuple(seen))


def _alternatives(p: Tensor, q: Tensor, count: int) -> list[tuple[SeenAlternative, ...]]:
    if count == 0:
        return [()] * len(p)
    ids = torch.cat([p.topk(count, dim=-1).indices, q.topk(count, dim=-1).indices], dim=-1)
    columns = (ids.tolist(), *(_rounded(part.gather(-1, ids).exp(), PROBABILITY_DECIMALS) for part in (p, q)))
    return [_joined(*row) for row in zip(*columns, strict=True)]


def _joined(ids: list[int], p: list[float], q: list[float]) -> tuple[SeenAlternative, ...]:
    """Each token once."""
    found = {token: (token, here, there) for token, here, there in zip(ids, p, q, strict=True) if max(here, there) >= LEAST_PROBABILITY}
    return tuple(sorted(found.values(), key=lambda one: (-one[2], -one[1], one[0])))


def _rounded(values: Tensor, decimals: int) -> Any:
    return values.double().round(decimals=decimals).tolist()
