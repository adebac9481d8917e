"""From logits to sampled tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from opcod.generation.base import SamplingParams

BLOCK = 128
"""Tokens of a large vocabulary whose probabilities are summed up before one of them is looked for."""

SORT_APART = 8
"""A nucleus is sorted by itself where no row has more than one part in so many of the vocabulary that may belong to it."""


def sample(logits: Tensor, params: SamplingParams, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Next tokens by inverse transform sampling.

    Args:
        logits: [B, V], fp32.
        params: temperature and nucleus.
        uniform: [B] numbers in [0, 1), one a row.

    Returns:
        token ids [B], and their log-probability [B] at the temperature before the nucleus (temperature 0: at 1).
    """
    scaled = logits if params.temperature in (0, 1) else logits / params.temperature
    probabilities = scaled.softmax(dim=-1)
    if params.temperature == 0:
        chosen = logits.argmax(dim=-1, keepdim=True)
    elif params.top_p < 1:
        likeliest, ids = _nucleus(probabilities, params.top_p)
        chosen = ids.gather(-1, _draw(likeliest, uniform.unsqueeze(-1)))
    else:
        chosen = _draw(probabilities, uniform.unsqueeze(-1))
    return chosen.squeeze(-1), probabilities.gather(-1, chosen).squeeze(-1).log()


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The probabilities [B, K] of the likeliest tokens, falling, 0 for those outside the nucleus; and their ids [B, K]."""
    likeliest, ids = _likeliest(probabilities, (1 - top_p) / probabilities.shape[-1])
    # A token stays while the mass before it is below top_p: the first one always does.
    outside = (likeliest.cumsum(dim=-1) - likeliest) >= top_p
    outside[:, 0] = False
    return likeliest.masked_fill_(outside, 0.0), ids


def _likeliest(probabilities: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Probabilities [B, K] of all tokens of at least `least`, falling, and their ids [B, K].

    The others, of which no more than V can be, have less than V times as much together: less than a nucleus leaves out. To sort
    all would take far longer, where most are such.
    """
    able = ~(probabilities < least)
    counts = able.sum(dim=-1)
    most = int(counts.max())
    if most > probabilities.shape[-1] // SORT_APART:
        return probabilities.sort(dim=-1, descending=True, stable=True)
    row, token = able.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    ids = torch.zeros((len(counts), most), dtype=torch.long, device=row.device)
    likeliest = torch.zeros(ids.shape, dtype=probabilities.dtype, device=row.device)
    ids[row, place], likeliest[row, place] = token, probabilities[row, token]
    likeliest, order = likeliest.sort(dim=-1, descending=True, stable=True)
    return likeliest, ids.gather(-1, order)


def _draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The place [B, 1] up to which there is the part `uniform` [B, 1] of all in `probabilities` [B, K]."""
    width = probabilities.shape[-1]
    if width <= 4 * BLOCK:
        sums = probabilities.cumsum(dim=-1)
        return _above(sums, uniform * sums[:, -1:])
    blocks = pad(probabilities, (0, -width % BLOCK)).unflatten(-1, (-1, BLOCK))
    sums = blocks.sum(dim=-1).cumsum(dim=-1)
    wanted = uniform * sums[:, -1:]
    block = _above(sums, wanted)
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, BLOCK)).squeeze(1).cumsum(dim=-1)
    return (block * BLOCK + _above(inside, wanted - pad(sums, (1, 0)).gather(-1, block))).clamp(max=width - 1)


def _above(sums: Tensor, wanted: Tensor) -> Tensor:
    """The first place [B, 1] at which the `sums` [B, K] exceed what is wanted. Rounding must not lead past the last that adds anything."""
    place = torch.searchsorted(sums, torch.minimum(wanted, sums[:, -1:] * (1 - 2**-23)), right=True)
    return place.clamp(max=sums.shape[-1] - 1)
