"""The divergence of Eq. 1 by hand, and the theorems that hold for it."""

from __future__ import annotations

import math
from itertools import pairwise

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from opcod.distillation.divergence import jensen_shannon, student_support

VOCABULARY = 12
ALPHAS = [0.0, 0.3, 0.5, 1.0]


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log().reshape(1, 1, -1)


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def by_hand(p: list[float], q: list[float], alpha: float) -> float:
    if alpha == 0:
        return kl(q, p)
    if alpha == 1:
        return kl(p, q)
    m = [(1 - alpha) * a + alpha * b for a, b in zip(p, q, strict=True)]
    return (1 - alpha) * kl(p, m) + alpha * kl(q, m)


def logits(low: float = -20, high: float = 20) -> st.SearchStrategy[Tensor]:
    return npst.arrays(np.float64, (2, 3, VOCABULARY), elements=st.floats(low, high, width=32)).map(torch.from_numpy)


class TestByHand:
    def test_two_tokens_at_one_half(self) -> None:
        expected = 0.5 * (0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5)) + 0.5 * (0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5))
        found = jensen_shannon(logits_of(0.5, 0.5), logits_of(0.25, 0.75), alpha=0.5, top_k=None)
        assert found.item() == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_the_tail_is_one_bucket(self, alpha: float) -> None:
        found = jensen_shannon(logits_of(0.5, 0.3, 0.2), logits_of(0.1, 0.6, 0.3), alpha=alpha, top_k=1)
        assert found.item() == pytest.approx(by_hand([0.5, 0.5], [0.1, 0.9], alpha), abs=1e-9)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_without_a_tail_the_top_k_are_renormalised(self, alpha: float) -> None:
        found = jensen_shannon(logits_of(0.5, 0.3, 0.2), logits_of(0.1, 0.6, 0.3), alpha=alpha, top_k=2, tail_bucket=False)
        assert found.item() == pytest.approx(by_hand([5 / 8, 3 / 8], [1 / 7, 6 / 7], alpha), abs=1e-12)

    def test_the_support_is_the_students(self) -> None:
        """The teacher's favourite, token 2, is not among the student's top two."""
        support = student_support(logits_of(0.5, 0.3, 0.2), top_k=2, tail_bucket=True)
        assert support.indices is not None
        assert support.indices.tolist() == [[[0, 1]]]
        assert support.log_probs.exp().flatten().tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-12)

    def test_the_ends_are_the_two_kl_divergences_the_right_way_round(self) -> None:
        p, q = [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]
        student, teacher = logits_of(*p), logits_of(*q)
        assert jensen_shannon(student, teacher, alpha=0.0, top_k=None).item() == pytest.approx(kl(q, p), abs=1e-12)
        assert jensen_shannon(student, teacher, alpha=1.0, top_k=None).item() == pytest.approx(kl(p, q), abs=1e-12)
        assert kl(p, q) != pytest.approx(kl(q, p), abs=1e-3)

    @pytest.mark.parametrize("top_k", [1, 2, None])
    def test_certainties_that_contradict_each_other_are_ln_2_apart(self, top_k: int | None) -> None:
        student = torch.tensor([[[60.0, 0.0, 0.0]]], dtype=torch.float64)
        found = jensen_shannon(student, student.flip(-1), top_k=top_k)
        assert found.item() == pytest.approx(math.log(2), abs=1e-5)

    def test_shape_is_one_value_a_token(self) -> None:
        assert jensen_shannon(torch.zeros(4, 7, 300), torch.zeros(4, 7, 300)).shape == (4, 7)


class TestTheorems:
    @given(student=logits(), teacher=logits())
    def test_symmetric_at_one_half_over_the_full_vocabulary(self, student: Tensor, teacher: Tensor) -> None:
        forth = jensen_shannon(student, teacher, alpha=0.5, top_k=None)
        back = jensen_shannon(teacher, student, alpha=0.5, top_k=None)
        torch.testing.assert_close(forth, back, atol=1e-12, rtol=0)

    @given(student=logits(), teacher=logits(), alpha=st.floats(0, 1), top_k=st.sampled_from([1, 3, VOCABULARY, None]), tail=st.booleans())
    def test_swapping_the_two_and_alpha_is_bounded_below_by_zero(
        self, student: Tensor, teacher: Tensor, alpha: float, top_k: int | None, tail: bool
    ) -> None:
        found = jensen_shannon(student, teacher, alpha=alpha, top_k=top_k, tail_bucket=tail)
        assert (found >= -1e-9).all()

    @given(student=logits(), teacher=logits(), top_k=st.sampled_from([1, 3, VOCABULARY, None]), tail=st.booleans())
    def test_at_most_ln_2_at_one_half(self, student: Tensor, teacher: Tensor, top_k: int | None, tail: bool) -> None:
        found = jensen_shannon(student, teacher, alpha=0.5, top_k=top_k, tail_bucket=tail)
        assert (found <= math.log(2) + 1e-6).all()

    @given(student=logits(), teacher=logits())
    def test_zero_if_and_only_if_equal(self, student: Tensor, teacher: Tensor) -> None:
        """TV^2 / 2 <= JSD <= ln 2 * TV (Pinsker; Lin 1991), with TV the total variation distance."""
        distance = 0.5 * (student.softmax(-1) - teacher.softmax(-1)).abs().sum(-1)
        found = jensen_shannon(student, teacher, alpha=0.5, top_k=None)
        assert (found >= distance.square() / 2 - 1e-12).all()
        assert (found <= math.log(2) * distance + 1e-12).all()

    @given(same=logits(), alpha=st.sampled_from(ALPHAS), top_k=st.sampled_from([1, 5, None]), tail=st.booleans())
    def test_equal_logits_up_to_a_constant_have_no_divergence_and_no_gradient(
        self, same: Tensor, alpha: float, top_k: int | None, tail: bool
    ) -> None:
        student = same.clone().requires_grad_()
        found = jensen_shannon(student, same + 3.5, alpha=alpha, top_k=top_k, tail_bucket=tail)
        found.sum().backward()
        assert student.grad is not None
        # The clamp that keeps the tail finite gives it up to 1e-7 of mass.
        torch.testing.assert_close(found.detach(), torch.zeros(2, 3, dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(student.grad, torch.zeros_like(same), atol=2e-7, rtol=0)

    @given(student=logits(-8, 8), teacher=logits(-8, 8), alpha=st.sampled_from(ALPHAS))
    def test_a_finer_support_never_loses_divergence(self, student: Tensor, teacher: Tensor, alpha: float) -> None:
        """Merging buckets can only lose divergence (data processing inequality), so it rises with K and ends at the full vocabulary."""
        by_k = [jensen_shannon(student, teacher, alpha=alpha, top_k=k) for k in (*range(1, VOCABULARY + 1), None)]
        for coarse, fine in pairwise(by_k):
            assert (coarse <= fine + 1e-6).all()

    @given(student=logits(), teacher=logits(), alpha=st.sampled_from(ALPHAS), shift=st.floats(-50, 50))
    def test_a_constant_added_to_all_logits_changes_nothing(self, student: Tensor, teacher: Tensor, alpha: float, shift: float) -> None:
        here = jensen_shannon(student, teacher, alpha=alpha, top_k=4)
        there = jensen_shannon(student + shift, teacher - shift, alpha=alpha, top_k=4)
        torch.testing.assert_close(here, there, atol=1e-8, rtol=1e-8)


class TestNumerics:
    @settings(max_examples=500)
    @given(
        seed=st.integers(0, 2**32 - 1),
        scale=st.sampled_from([1e1, 1e2, 1e3, 1e4]),
        dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
        alpha=st.sampled_from(ALPHAS),
        top_k=st.sampled_from([1, 4, None]),
        tail=st.booleans(),
    )
    def test_peaked_logits_give_neither_nan_nor_infinity(
        self, seed: int, scale: float, dtype: torch.dtype, alpha: float, top_k: int | None, tail: bool
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        student, teacher = (scale * torch.rand(2, 5, VOCABULARY, generator=draw) for _ in range(2))
        student[0, 0] = torch.eye(VOCABULARY)[0] * scale
        teacher[0, 0] = torch.eye(VOCABULARY)[1] * scale
        student = student.to(dtype).requires_grad_()
        found = jensen_shannon(student, teacher.to(dtype), alpha=alpha, top_k=top_k, tail_bucket=tail)
        found.sum().backward()
        assert student.grad is not None
        assert found.isfinite().all()
        assert student.grad.isfinite().all()

    def test_a_forbidden_token_is_a_probability_of_zero(self) -> None:
        student = torch.tensor([[[0.0, 1.0, -torch.inf, 2.0]]], dtype=torch.float64, requires_grad=True)
        teacher = torch.tensor([[[0.0, 1.0, -torch.inf, -torch.inf]]], dtype=torch.float64)
        for top_k in (2, 3, None):
            found = jensen_shannon(student, teacher, top_k=top_k)
            (gradient,) = torch.autograd.grad(found.sum(), student)
            assert found.isfinite().all()
            assert gradient.isfinite().all()

    def test_single_precision_keeps_five_digits(self) -> None:
        draw = torch.Generator().manual_seed(1)
        student, teacher = (4 * torch.randn(8, 16, 400, generator=draw, dtype=torch.float64) for _ in range(2))
        single = jensen_shannon(student.float(), teacher.float())
        torch.testing.assert_close(single.double(), jensen_shannon(student, teacher), atol=2e-6, rtol=1e-5)


class TestGradient:
    @pytest.mark.parametrize("tail", [True, False])
    @pytest.mark.parametrize("top_k", [3, None])
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_equals_finite_differences(self, alpha: float, top_k: int | None, tail: bool) -> None:
        draw = torch.Generator().manual_seed(2)
        student, teacher = (2 * torch.randn(1, 2, 7, generator=draw, dtype=torch.float64) for _ in range(2))
        student.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda x: jensen_shannon(x, teacher, alpha=alpha, top_k=top_k, tail_bucket=tail), (student,), atol=1e-6
        )

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_reaches_the_student_alone(self, alpha: float) -> None:
        student, teacher = (torch.randn(1, 2, 9, requires_grad=True) for _ in range(2))
        jensen_shannon(student, teacher, alpha=alpha, top_k=3).sum().backward()
        assert teacher.grad is None
        assert student.grad is not None
        assert student.grad.abs().sum() > 0

    def test_a_step_against_it_brings_the_student_to_the_teacher(self) -> None:
        draw = torch.Generator().manual_seed(3)
        student, teacher = (torch.randn(1, 4, 20, generator=draw) for _ in range(2))
        student.requires_grad_()
        before = jensen_shannon(student, teacher)
        (gradient,) = torch.autograd.grad(before.sum(), student)
        assert (jensen_shannon(student - gradient, teacher) < before).all()
