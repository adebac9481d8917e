"""The per-token divergence of paper Eq. 1, as pure tensor functions.

p is the student's distribution, q the self-teacher's. Logits come in already divided by the sampling
temperature. `jensen_shannon` is the plain form; from its parts `opcod.distillation.loss` makes the same a chunk of tokens
at a time, and throws the logits away in between.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_PROBABILITY_FLOOR = -1e30
"""Stands for log 0, so that 0 * log 0 is 0 and not NaN."""
TAIL_CEILING = -1e-7
"""Largest log of the top-K mass: keeps log(1 - mass) finite when the top K hold everything (SDPO code)."""


class Support(NamedTuple):
    """Log-probabilities on the buckets that are compared.

    `log_probs` is [..., K + 1] with a tail bucket, [..., K] without, [..., V] over the full
    vocabulary. `indices` [..., K] are the student's top-K tokens, None over the full vocabulary.
    """

    log_probs: Tensor
    indices: Tensor | None


def student_support(logits: Tensor, *, top_k: int | None, tail_bucket: bool) -> Support:
    """The student's log-probabilities on its own top K tokens, and the tail.

    Args:
        logits: [..., V].
        top_k: K; None, or K >= V, compares the whole vocabulary (then there is no tail).
        tail_bucket: append log(1 - sum p); without it the top K are renormalised.
    """
    if top_k is None or top_k >= logits.shape[-1]:
        return Support(_log_softmax(logits), None)
    top, indices = torch.topk(logits, top_k, dim=-1)
    return Support(buckets(top - torch.logsumexp(logits, dim=-1, keepdim=True), tail_bucket), indices)


def teacher_on_support(logits: Tensor, indices: Tensor | None, *, tail_bucket: bool) -> Tensor:
    """The teacher's log-probabilities on the student's buckets; shapes as in `Support`."""
    if indices is None:
        return _log_softmax(logits)
    gathered = logits.gather(-1, indices) - torch.logsumexp(logits, dim=-1, keepdim=True)
    return buckets(gathered, tail_bucket)


def buckets(log_probs: Tensor, tail_bucket: bool) -> Tensor:
    """Log-probabilities [..., K] of the top K with their tail [..., K + 1], or renormalised [..., K]."""
    log_probs = log_probs.clamp(min=LOG_PROBABILITY_FLOOR)
    log_mass = torch.logsumexp(log_probs, dim=-1, keepdim=True)
    if not tail_bucket:
        return log_probs - log_mass
    tail = torch.log(-torch.expm1(log_mass.clamp(max=TAIL_CEILING)))
    return torch.cat([log_probs, tail], dim=-1)


def divergence_on_support(student_log_probs: Tensor, teacher_log_probs: Tensor, alpha: float) -> Tensor:
    """Generalised Jensen-Shannon divergence (1 - alpha) KL(p||m) + alpha KL(q||m), m = (1 - alpha) p + alpha q.

    alpha = 0 is forward KL(q||p), alpha = 1 reverse KL(p||q), as in SDPO's code: the limits of the
    mixture form divided by alpha and 1 - alpha. Returns nats, [...].
    """
    if alpha == 0.0:
        return _kl(teacher_log_probs, student_log_probs)
    if alpha == 1.0:
        return _kl(student_log_probs, teacher_log_probs)
    mixture = torch.logaddexp(student_log_probs + math.log1p(-alpha), teacher_log_probs + math.log(alpha))
    return (1.0 - alpha) * _kl(student_log_probs, mixture) + alpha * _kl(teacher_log_probs, mixture)


def jensen_shannon(
    student_logits: Tensor, teacher_logits: Tensor, *, alpha: float = 0.5, top_k: int | None = 100, tail_bucket: bool = True
) -> Tensor:
    """Divergence of every token (paper Eq. 1 with section 4's top-K and tail).

    Args:
        student_logits: [B, T, V], temperature applied; gradients flow through these only.
        teacher_logits: [B, T, V], of the same tokens by response position.
        alpha: in [0, 1].
        top_k: K of the student's top K; None for the full vocabulary.
        tail_bucket: compare what is left of the mass as one more bucket.

    Returns:
        [B, T], nats.
    """
    support = student_support(student_logits, top_k=top_k, tail_bucket=tail_bucket)
    teacher = teacher_on_support(teacher_logits.detach(), support.indices, tail_bucket=tail_bucket)
    return divergence_on_support(support.log_probs, teacher, alpha)


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1).clamp(min=LOG_PROBABILITY_FLOOR)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(dim=-1)
