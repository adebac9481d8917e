"""From logits to sampled tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from opcod.generation.base import SamplingParams


def sample(logits: Tensor, params: SamplingParams, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Next tokens by inverse transform sampling.

    Args:
        logits: [B, V], fp32.
        params: temperature and nucleus.
        uniform: [B] numbers in [0, 1), one a row.

    Returns:
        token ids [B], and their log-probability [B] at the temperature before the nucleus (temperature 0: at 1).
    """
    if params.temperature == 0:
        log_probs = torch.log_softmax(logits, dim=-1)
        chosen = logits.argmax(dim=-1)
    else:
        log_probs = torch.log_softmax(logits / params.temperature, dim=-1)
        probabilities, ids = log_probs.exp(), None
        if params.top_p < 1:
            probabilities, ids = probabilities.sort(dim=-1, descending=True)
            # A token stays while the mass before it is below top_p: the first one always does.
            outside = probabilities.cumsum(dim=-1) - probabilities >= params.top_p
            outside[:, 0] = False
            probabilities = probabilities.masked_fill(outside, 0.0)
        cumulative = probabilities.cumsum(dim=-1)
        # Strictly below the total, so that the last token of probability 0 can't be reached by rounding.
        threshold = uniform.clamp(max=1 - 2**-23).unsqueeze(-1) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
        if ids is not None:
            chosen = ids.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    return chosen, log_probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
