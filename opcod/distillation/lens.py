"""What student and self-teacher made of single tokens, looked at beside the loss. Nothing here touches gradients or draws."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor

from opcod.distillation.loss import Chunk
from opcod.stopwatch import part

LOG_FLOOR = -100.0
"""Stands for log 0 on the record."""
LOG_DECIMALS = 3
PROBABILITY_DECIMALS = 4
DIVERGENCE_DECIMALS = 5
WEIGHT_DECIMALS = 3
LEAST_PROBABILITY = 0.001
"""Alternatives that are less likely than this for both are left out: most tokens have no real one."""
HIDDEN = 2**63 - 1
"""Comes behind every alternative."""

SeenAlternative = tuple[int, float, float]
"""Token id, probability for the student, probability for the self-teacher."""


@dataclass(frozen=True, slots=True)
class TokenView:
    """Of one response of T tokens, rounded: log-probabilities [T] of the sampled tokens at the sampling temperature, the divergence
    (nats) and the importance weight [T], and the likely next tokens of both at each position, those that the self-teacher prefers first.
    """

    student: tuple[float, ...]
    teacher: tuple[float, ...]
    divergence: tuple[float, ...]
    weight: tuple[float, ...]
    alternatives: tuple[tuple[SeenAlternative, ...], ...]


class Lens:
    """Looks at the responses of a micro-batch while the loss goes by (an `opcod.distillation.loss.Observer`), and tells of all at once:
    single ones are small, and would pay for every operation.

    Args:
        responses: B times the sampled token ids.
        alternatives: [B], how many of each one's most likely next tokens; 0 for none, None: the response is not looked at.
    """

    def __init__(self, responses: Sequence[Sequence[int]], alternatives: Sequence[int | None]) -> None:
        self._asked = [*zip(map(len, responses), alternatives, strict=True)]
        ends = accumulate(length for length, _ in self._asked)
        spans = [range(end - length, end) for end, (length, count) in zip(ends, self._asked, strict=True) if count is not None]
        self._places = [*chain.from_iterable(spans)]
        self._most = max((count for count in alternatives if count is not None), default=0)
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, chunk: Chunk, teacher: Tensor) -> None:
        """Keep of each token that is looked at the ids [1 + 2 K] of the sampled one, of the student's likeliest and of the self-teacher's,
        and the log-probabilities that both give them.
        """
        first, end = (bisect_left(self._places, place) for place in (chunk.span.start, chunk.span.start + len(chunk.sampled)))
        if first == end:
            return
        with part("token_views"):
            rows = None
            if end - first < len(chunk.sampled):
                rows = torch.tensor(self._places[first:end], device=teacher.device) - chunk.span.start
            sampled, x, normalizer, y = (
                each if rows is None else each[rows] for each in (chunk.sampled, chunk.student, chunk.normalizer, teacher)
            )
            top = chunk.top if rows is None or chunk.top is None else chunk.top[rows]
            count = min(self._most, x.shape[-1])
            ids = torch.cat([sampled.unsqueeze(-1), _likeliest(x, count, top), _likeliest(y, count)], dim=-1)
            p = x.gather(-1, ids) - normalizer.unsqueeze(-1)
            q = y.gather(-1, ids) - y.logsumexp(dim=-1, keepdim=True)
            self._seen.append((ids, p, q))

    def views(self, divergence: Tensor, weight: Tensor) -> list[TokenView | None]:
        """[B], None for those that are not looked at.

        Args:
            divergence: [N] of the micro-batch's tokens, in nats.
            weight: [N], their importance weights.
        """
        looked_at = [(length, count) for length, count in self._asked if count is not None]
        if not looked_at:
            return [None] * len(self._asked)
        with part("token_views"):
            ids, p, q = (torch.cat(column).cpu() for column in zip(*self._seen, strict=True))
            lengths, counts = (torch.tensor(column) for column in zip(*looked_at, strict=True))
            places = torch.tensor(self._places)
            columns = [
                *(_rounded(each[:, 0].clamp(min=LOG_FLOOR), LOG_DECIMALS).tolist() for each in (p, q)),
                _rounded(divergence.detach().cpu()[places], DIVERGENCE_DECIMALS).tolist(),
                _rounded(weight.detach().cpu()[places], WEIGHT_DECIMALS).tolist(),
                _alternatives(ids[:, 1:], p[:, 1:], q[:, 1:], counts.repeat_interleave(lengths)),
            ]
            views: list[TokenView | None] = []
            start = 0
            for length, count in self._asked:
                if count is None:
                    views.append(None)
                else:
                    views.append(TokenView(*(tuple(column[start : start + length]) for column in columns)))
                    start += length
            return views


def _likeliest(logits: Tensor, count: int, among: Tensor | None = None) -> Tensor:
    """Ids [N, K] of the K highest of [N, V], the highest first. `among` [N, M]: they are known to be among these, if those are enough."""
    if among is None or among.shape[-1] < count:
        among = _candidates(logits, count)
    return among.gather(-1, logits.gather(-1, among).topk(count, dim=-1).indices)


def _candidates(logits: Tensor, count: int) -> Tensor:
    """Ids [N, M], among which are the `count` highest of [N, V]: those of the blocks with the highest maxima, and the few of no block.

    A maximum is found much faster than the highest few. A block is every so many-th token, so that maxima are taken of whole rows at once;
    its size makes the blocks about as many as the ids that are left.
    """
    vocabulary, device = logits.shape[-1], logits.device
    size = max(1, math.isqrt(vocabulary // max(1, count)))
    blocks = vocabulary // size
    best = logits[:, : size * blocks].unflatten(-1, (size, blocks)).amax(dim=1).topk(count, dim=-1, sorted=False).indices
    ids = (best.unsqueeze(-1) + blocks * torch.arange(size, device=device)).flatten(1)
    rest = torch.arange(size * blocks, vocabulary, device=device)
    return torch.cat([ids, rest.expand(len(ids), -1)], dim=-1)


def _alternatives(ids: Tensor, p: Tensor, q: Tensor, counts: Tensor) -> list[tuple[SeenAlternative, ...]]:
    """Of [N, 2 K] token ids, the student's K before the self-teacher's, with their log-probabilities: each token once, of the first
    `counts` [N] of both, in the order of the self-teacher's probability, the student's, and the id.

    Both probabilities and the id are the digits of one number for each, so that all are put in order at once.
    """
    scale = 10**PROBABILITY_DECIMALS
    here, there = ((each.exp().double() * scale).round().long() for each in (p, q))
    base = int(ids.max()) + 1 if ids.numel() else 1
    keys = ((scale - there) * (scale + 1) + scale - here) * base + ids
    rank = torch.arange(ids.shape[-1] // 2).repeat(2)
    shown = (torch.maximum(here, there) >= round(LEAST_PROBABILITY * scale)) & (rank < counts.unsqueeze(-1))
    keys = keys.masked_fill_(~shown, HIDDEN).sort(dim=-1).values
    shown = keys != HIDDEN
    shown[:, 1:] &= keys[:, 1:] != keys[:, :-1]  # one that both think likely
    chosen = keys[shown]
    both = chosen // base
    probabilities = ((scale - digits).double() / scale for digits in (both % (scale + 1), both // (scale + 1)))
    columns = (chosen % base, *probabilities)
    seen = [*zip(*(column.tolist() for column in columns), strict=True)]
    return [tuple(seen[start:end]) for start, end in pairwise(accumulate(shown.sum(dim=-1).tolist(), initial=0))]


def _rounded(values: Tensor, decimals: int) -> Tensor:
    return values.double().round(decimals=decimals)
