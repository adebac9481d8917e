"""From logits to sampled tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from opcod.generation.base import SamplingParams

BLOCK = 128
"""Tokens whose probabilities are summed up before one of them is looked for."""
NUCLEUS = 1024
"""Likeliest tokens that are sorted first: seldom is a nucleus larger."""


def sample(logits: Tensor, params: SamplingParams, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Next tokens by inverse transform sampling.

    Args:
        logits: [B, V], fp32.
        params: temperature and nucleus.
        uniform: [B] numbers in [0, 1), one a row.

    Returns:
        token ids [B], and their log-probability [B] at the temperature before the nucleus (temperature 0: at 1).
    """
    highest, likeliest = logits.max(dim=-1, keepdim=True)
    masses = logits - highest
    if params.temperature not in (0, 1):
        masses /= params.temperature
    masses = masses.exp_()  # up to a factor, the probabilities
    total = masses.sum(dim=-1, keepdim=True)
    if params.temperature == 0:
        chosen = likeliest
    elif params.top_p < 1:
        nucleus, ids = _nucleus(masses, total * params.top_p)
        chosen = ids.gather(-1, _draw(nucleus, uniform.unsqueeze(-1)))
    else:
        chosen = _draw(masses, uniform.unsqueeze(-1))
    log_probs = (logits.gather(-1, chosen) - highest) / (params.temperature or 1) - total.log()
    return chosen.squeeze(-1), log_probs.squeeze(-1)


def _nucleus(masses: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """The masses [B, K] of the likeliest tokens, the first first, 0 for those outside the nucleus, and their ids."""
    for size in (NUCLEUS, masses.shape[-1]):
        likeliest, ids = masses.topk(min(size, masses.shape[-1]), dim=-1)
        before = likeliest.cumsum(dim=-1) - likeliest
        if bool((before[:, -1:] + likeliest[:, -1:] >= most).all()):
            break
    # A token stays while the mass before it is below top_p: the first one always does.
    outside = before >= most
    outside[:, 0] = False
    return likeliest.masked_fill(outside, 0.0), ids


def _draw(masses: Tensor, uniform: Tensor) -> Tensor:
    """The place [B, 1] in `masses` [B, K] up to which there is the part `uniform` [B, 1] of all: first its block, then in there."""
    blocks = pad(masses, (0, -masses.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    sums = blocks.sum(dim=-1).cumsum(dim=-1)
    wanted = uniform * sums[:, -1:]
    block = _above(sums, wanted)
    before = pad(sums, (1, 0)).gather(-1, block)
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, BLOCK)).squeeze(1).cumsum(dim=-1)
    return (block * BLOCK + _above(inside, wanted - before)).clamp(max=masses.shape[-1] - 1)


def _above(sums: Tensor, wanted: Tensor) -> Tensor:
    """The first place [B, 1] at which the `sums` [B, K] exceed what is wanted. Rounding must not lead past the last that adds anything."""
    place = torch.searchsorted(sums, torch.minimum(wanted, sums[:, -1:] * (1 - 2**-23)), right=True)
    return place.clamp(max=sums.shape[-1] - 1)
