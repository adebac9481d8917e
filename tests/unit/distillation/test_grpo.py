"""The GRPO baseline by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from opcod.distillation.grpo import group_advantages, policy_losses


def losses(now: Tensor, old: Tensor, advantages: list[float], *, rollout: Tensor | None = None, threshold: float = 2.0) -> Tensor:
    sampled = old if rollout is None else rollout
    a_token = torch.tensor(advantages).unsqueeze(-1).expand_as(now)
    return policy_losses(now, old, sampled, a_token, clip=0.2, importance_threshold=threshold)


def test_advantages_are_centred_and_not_divided_by_the_standard_deviation() -> None:
    assert group_advantages([1.0, 0.0, 0.0, 0.0]) == [0.75, -0.25, -0.25, -0.25]


def test_a_group_of_equal_rewards_teaches_nothing() -> None:
    assert group_advantages([1.0, 1.0, 1.0]) == [0.0, 0.0, 0.0]


def test_on_policy_the_gradient_is_that_of_reinforce() -> None:
    now = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(losses(now, now.detach(), [0.75, -0.25]).sum(), now)
    torch.testing.assert_close(gradient, torch.tensor([[-0.75, -0.75], [0.25, 0.25]]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "moves"),
    [
        (1.1, 1.0, -1.1, True),
        (1.5, 1.0, -1.2, False),
        (0.5, 1.0, -0.5, True),
        (1.5, -1.0, 1.5, True),
        (0.5, -1.0, 0.8, False),
    ],
)
def test_the_ratio_is_clipped_where_clipping_makes_the_objective_smaller(
    ratio: float, advantage: float, expected: float, moves: bool
) -> None:
    now = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss = losses(now, torch.zeros(1, 1), [advantage])
    (gradient,) = torch.autograd.grad(loss.sum(), now)
    assert loss.item() == pytest.approx(expected)
    assert bool(gradient.item()) == moves


@pytest.mark.parametrize(("old_over_rollout", "correction"), [(0.5, 0.5), (1.5, 1.5), (8.0, 2.0)])
def test_the_engines_mismatch_is_corrected_up_to_the_threshold(old_over_rollout: float, correction: float) -> None:
    old = torch.zeros(1, 1)
    loss = losses(old, old, [1.0], rollout=torch.tensor([[-math.log(old_over_rollout)]]))
    assert loss.item() == pytest.approx(-correction)
