"""The self-teacher's moving average against its closed form (method section 4)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from opcod.config import AdaptersConfig
from opcod.errors import CheckpointError
from opcod.students.ema import ExponentialAverage
from opcod.students.loading import Student


def small(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).to(dtype)


def move(model: nn.Module, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=scale)


@given(rate=st.floats(0, 1), steps=st.integers(0, 6))
def test_it_is_the_geometric_mean_of_the_past(rate: float, steps: int) -> None:
    model = small()
    expected = [weight.detach().double().clone() for weight in model.parameters()]
    teacher = ExponentialAverage(model, rate)
    for step in range(steps):
        move(model, step)
        teacher.update(model)
        expected = [(1 - rate) * old + rate * new.detach().double() for old, new in zip(expected, model.parameters(), strict=True)]
    for weight, wanted in zip(teacher.model.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.double(), wanted, atol=1e-5, rtol=1e-5)


def test_rate_zero_stays_where_it_began_and_rate_one_follows() -> None:
    model = small()
    start = copy.deepcopy(model)
    frozen, follower = ExponentialAverage(model, 0.0), ExponentialAverage(model, 1.0)
    move(model, 1)
    for teacher in (frozen, follower):
        teacher.update(model)
    for kept, begun, followed, now in zip(*(m.parameters() for m in (frozen.model, start, follower.model, model)), strict=True):
        assert torch.equal(kept, begun)
        assert torch.equal(followed, now)
        assert not torch.equal(begun, now)


def test_small_steps_add_up_in_bfloat16() -> None:
    """1000 steps towards a student a hair away: bfloat16 alone would never move."""
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        model.weight.fill_(1.0)
    teacher = ExponentialAverage(model, 0.01)
    with torch.no_grad():
        model.weight.fill_(1.0078125)  # the next number in bfloat16
    for _ in range(1000):
        teacher.update(model)
    assert torch.equal(teacher.model.state_dict()["weight"], model.weight)


def test_the_teacher_learns_from_no_gradient_and_leaves_the_student_alone() -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    teacher = ExponentialAverage(model, 0.5)
    assert not teacher.model.training
    assert not any(weight.requires_grad for weight in teacher.model.parameters())
    move(teacher.model, 3)
    teacher.update(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())


def test_buffers_stay_as_they_were() -> None:
    model = small()
    teacher = ExponentialAverage(model, 1.0)
    model.train()
    model(torch.ones(5, 4))
    teacher.update(model)
    kept, moved = (dict(one.named_buffers())["1.running_mean"] for one in (teacher.model, model))
    assert torch.equal(kept, torch.zeros(3))
    assert not torch.equal(moved, torch.zeros(3))


def test_with_adapters_only_they_are_averaged_and_the_base_is_shared(make_student: Callable[..., Student]) -> None:
    model = make_student(adapters=AdaptersConfig(rank=2)).model
    teacher = ExponentialAverage(model, 0.5)
    own = dict(teacher.model.named_parameters())
    for name, weight in model.named_parameters():
        assert (own[name].data_ptr() == weight.data_ptr()) is not weight.requires_grad
    assert all("lora_" in name for name in teacher.state_dict())
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(teacher.model(ids).logits, model(ids).logits)
    move(model, 1)
    assert not torch.equal(teacher.model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_average_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    model = small(dtype)
    whole = ExponentialAverage(model, 0.05)
    for step in range(3):
        move(model, step, 0.01)
        whole.update(model)
    again = ExponentialAverage(small(dtype), 0.05)
    again.load_state_dict(whole.state_dict())
    for step in range(3, 6):
        move(model, step, 0.01)
        whole.update(model)
        again.update(model)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_a_saved_state_is_a_copy() -> None:
    model = small()
    teacher = ExponentialAverage(model, 1.0)
    state = teacher.state_dict()
    move(model, 1)
    teacher.update(model)
    assert not torch.equal(state["0.weight"], teacher.state_dict()["0.weight"])


def test_another_models_state_is_refused() -> None:
    teacher = ExponentialAverage(small(), 0.05)
    with pytest.raises(CheckpointError):
        teacher.load_state_dict(ExponentialAverage(nn.Linear(4, 3), 0.05).state_dict())


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_the_unit_interval(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        ExponentialAverage(small(), rate)
