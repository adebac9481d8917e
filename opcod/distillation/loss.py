"""The distillation loss of a micro-batch and its statistics (paper Eq. 1, method section 5).

Memory: the student's logits stay in the model's precision, fp32 exists for `CHUNK_TOKENS` positions at a
time and is recomputed in the backward pass; the teacher's logits are reduced to the student's top K at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from opcod.distillation.divergence import divergence_on_support, student_support, teacher_on_support

CHUNK_TOKENS = 1024
LOG_RATIO_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Per-token results of a micro-batch, all [B, T] and in fp32 (fp64 for fp64 logits).

    `divergence` and `log_probs` (of the sampled token, at the sampled temperature) carry the student's gradient;
    `entropy` does not.
    """

    divergence: Tensor
    log_probs: Tensor
    entropy: Tensor


def score_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    responses: Tensor,
    *,
    temperature: float,
    alpha: float,
    top_k: int | None,
    tail_bucket: bool,
) -> TokenScores:
    """Divergence of student and teacher at every response position.

    Args:
        student_logits: [B, T, V], any precision, no temperature applied yet.
        teacher_logits: [B, T, V], of the same responses after the self-teacher's prompts.
        responses: [B, T] sampled token ids.
        temperature: of the rollout sampler.
        alpha: as `divergence_on_support`.
        top_k: as `student_support`.
        tail_bucket: as `student_support`.
    """

    def chunk(student: Tensor, teacher: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        student, teacher = _widen(student) / temperature, _widen(teacher) / temperature
        support = student_support(student, top_k=top_k, tail_bucket=tail_bucket)
        reference = teacher_on_support(teacher, support.indices, tail_bucket=tail_bucket)
        return divergence_on_support(support.log_probs, reference, alpha), *_log_prob_and_entropy(student, sampled)

    parts = [
        checkpoint(chunk, student_logits[:, span], teacher_logits[:, span].detach(), responses[:, span], use_reentrant=False)
        for span in _spans(student_logits)
    ]
    return TokenScores(*(torch.cat(column, dim=1) for column in zip(*parts, strict=True)))


def score_sampled(logits: Tensor, responses: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probability, entropy) [B, T] of sampled tokens at the sampled temperature, chunked like the distillation."""

    def chunk(part: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
        return _log_prob_and_entropy(_widen(part) / temperature, sampled)

    parts = [checkpoint(chunk, logits[:, span], responses[:, span], use_reentrant=False) for span in _spans(logits)]
    log_probs, entropy = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
    return log_probs, entropy


def importance_weights(log_probs: Tensor, rollout_log_probs: Tensor, *, clip: float | None) -> Tensor:
    """min(exp(log pi_now - log pi_rollout), clip), without gradient (SDPO code; log-ratio clamped to +-20)."""
    if clip is None:
        return torch.ones_like(log_probs)
    ratio = (log_probs - rollout_log_probs).detach().clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return ratio.exp().clamp(max=clip)


def aggregate(values: Tensor, mask: Tensor, *, how: Literal["token_mean", "sequence_mean"], tokens: int, sequences: int) -> Tensor:
    """A micro-batch's share of the whole batch's mean; the shares of all micro-batches add up to it.

    Args:
        values: [B, T].
        mask: [B, T], True where a token counts.
        how: mean over tokens (SDPO code), or over a response's tokens and then responses (Eq. 1).
        tokens: unmasked tokens of the WHOLE batch.
        sequences: responses of the WHOLE batch.
    """
    values = values.masked_fill(~mask, 0.0)
    if how == "token_mean":
        return values.sum() / tokens
    return (values.sum(-1) / mask.sum(-1).clamp(min=1)).sum() / sequences


def _log_prob_and_entropy(logits: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
    normalizer = torch.logsumexp(logits, dim=-1)
    log_probs = logits.gather(-1, sampled.unsqueeze(-1)).squeeze(-1) - normalizer
    with torch.no_grad():
        expected = (torch.softmax(logits, dim=-1) * logits).sum(-1)
        entropy = (normalizer - expected).clamp(min=0.0)
    return log_probs, entropy


def _widen(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _spans(logits: Tensor) -> Iterator[slice]:
    rows, length, _ = logits.shape
    width = max(1, CHUNK_TOKENS // max(1, rows))
    for start in range(0, length, width):
        yield slice(start, min(start + width, length))
