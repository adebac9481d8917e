"""The optimiser: warm-up, float32 masters, refusal of bad gradients, and states that go on bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcod.config import OptimizerConfig
from opcod.errors import NumericsError
from opcod.training.optimizer import Optimizer


def linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3).to(dtype)


def push(model: nn.Linear, optimizer: Optimizer, times: int, *, start: int = 0) -> None:
    for step in range(start, start + times):
        torch.manual_seed(step)
        model(torch.randn(5, 4).to(model.weight.dtype)).square().sum().backward()
        optimizer.step()


def test_the_rate_warms_up_then_stays() -> None:
    model = linear()
    optimizer = Optimizer(model, OptimizerConfig(learning_rate=0.1, warmup_steps=4))
    rates = []
    for step in range(6):
        rates.append(optimizer.learning_rate)
        push(model, optimizer, 1, start=step)
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_small_updates_of_bfloat16_weights_add_up() -> None:
    """At 1e-5 one update of a weight of 0.5 rounds to nothing in bfloat16; three hundred of them must not."""
    model = linear(torch.bfloat16)
    nn.init.constant_(model.weight, 0.5)
    optimizer = Optimizer(model, OptimizerConfig(learning_rate=1e-5, warmup_steps=0, weight_decay=0))
    push(model, optimizer, 1)
    assert torch.equal(model.weight, torch.full_like(model.weight, 0.5))
    push(model, optimizer, 300, start=1)
    assert not torch.equal(model.weight, torch.full_like(model.weight, 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_state_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    config = OptimizerConfig(learning_rate=0.01, warmup_steps=3)
    whole = linear(dtype)
    whole_optimizer = Optimizer(whole, config)
    push(whole, whole_optimizer, 5)

    first = linear(dtype)
    first_optimizer = Optimizer(first, config)
    push(first, first_optimizer, 2)
    second = linear(dtype)
    second.load_state_dict(first.state_dict())
    second_optimizer = Optimizer(second, config)
    second_optimizer.load_state_dict(first_optimizer.state_dict())
    push(second, second_optimizer, 3, start=2)
    assert torch.equal(second.weight, whole.weight)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    model = linear()
    before = model.weight.detach().clone()
    optimizer = Optimizer(model, OptimizerConfig())
    model(torch.full((1, 4), float("inf"))).sum().backward()
    with pytest.raises(NumericsError, match="not finite"):
        optimizer.step()
    assert torch.equal(model.weight, before)
