"""The divergence and its gradient equal those of trl's experimental SDPO (SDPO's loss, written by others)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from trl.experimental.sdpo.loss_utils import compute_full_logit_self_distillation_loss, compute_topk_self_distillation_loss

from opcod.distillation.divergence import jensen_shannon

TOLERANCE = 1e-6


def random_logits(seed: int, vocabulary: int, scale: float) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    student = scale * torch.randn(3, 4, vocabulary, generator=draw, dtype=torch.float64)
    teacher = student + scale * torch.randn(3, 4, vocabulary, generator=draw, dtype=torch.float64)
    return student, teacher


def with_gradient(loss: Tensor, student: Tensor, weights: Tensor) -> Tensor:
    """Each token's gradient is weighted differently, so that tokens cannot be exchanged unseen."""
    return torch.autograd.grad((loss * weights).sum(), student)[0]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scale", [0.3, 4.0])
@pytest.mark.parametrize("vocabulary", [7, 60, 500])
@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("top_k", [1, 5, 100, None])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_equals_trl(alpha: float, top_k: int | None, tail: bool, vocabulary: int, scale: float, seed: int) -> None:
    student, teacher = random_logits(seed, vocabulary, scale)
    student.requires_grad_()
    weights = torch.linspace(0.5, 1.5, 12, dtype=torch.float64).reshape(3, 4)

    ours = jensen_shannon(student, teacher, alpha=alpha, top_k=top_k, tail_bucket=tail)
    if top_k is None:
        theirs = compute_full_logit_self_distillation_loss(student, teacher, distillation_alpha=alpha)
    else:
        theirs = compute_topk_self_distillation_loss(
            student,
            teacher,
            distillation_topk=min(top_k, vocabulary),
            distillation_alpha=alpha,
            distillation_add_tail=tail,
        )

    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(with_gradient(ours, student, weights), with_gradient(theirs, student, weights), atol=TOLERANCE, rtol=0)
