"""The GRPO baseline's loss (method section 6): no KL term, no critic, advantage without the standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """Reward minus the mean of the question's group."""
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def policy_losses(
    log_probs: Tensor, old_log_probs: Tensor, rollout_log_probs: Tensor, advantages: Tensor, *, clip: float, importance_threshold: float
) -> Tensor:
    """Clipped surrogate of every token, [N], to be minimised.

    Args:
        log_probs: [N] of the sampled tokens now, with gradient.
        old_log_probs: [N] under the policy before this step's first update, by the training forward.
        rollout_log_probs: [N] as the generation engine reported them.
        advantages: [N], each token that of its response.
        clip: PPO clip range of the ratio now / old.
        importance_threshold: largest old / rollout correction of the engines' mismatch (token level, truncated).
    """
    ratio = torch.exp(log_probs - old_log_probs)
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    correction = torch.exp((old_log_probs - rollout_log_probs).clamp(-20.0, 20.0)).clamp(max=importance_threshold)
    return -(surrogate * correction.detach())
