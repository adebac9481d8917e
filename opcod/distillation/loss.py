"""The distillation loss of a micro-batch and its statistics (paper Eq. 1, method section 5).

Memory: logits are read out a chunk of tokens at a time, reduced to the student's top K at once, and read out again for the
gradient. Beside weights, their gradients and hidden states there stay a few numbers a token and the buffers of one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from opcod.distillation.divergence import buckets, divergence_on_support, jensen_shannon, teacher_on_support
from opcod.distillation.readout import Readout

CHUNK_LOGITS = 2**25
"""Logits (tokens x vocabulary) of a chunk: 128 MiB in float32."""
WHOLE_VOCABULARY_COST = 8
"""Buffers of the chunk's size that the divergence over the whole vocabulary takes where the top K take one."""
LOG_RATIO_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Per-token results, all [N] and in fp32 (fp64 for fp64 logits).

    `divergence` and `log_probs` (of the sampled token, at the sampled temperature) carry the student's gradient;
    `entropy` does not.
    """

    divergence: Tensor
    log_probs: Tensor
    entropy: Tensor


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the loss holds of C tokens in a row before it lets go of their logits. To be read, not written."""

    span: slice
    """Which of the N tokens."""
    sampled: Tensor
    """[C] token ids."""
    student: Tensor
    """[C, V] logits, temperature applied, in fp32 (fp64 for fp64 logits)."""
    normalizer: Tensor
    """[C], their logsumexp."""
    top: Tensor | None
    """[C, K] ids of the student's top K, in no order; None where the whole vocabulary is compared."""


Observer = Callable[[Chunk, Tensor], None]
"""Is shown every chunk once, in order, in the forward pass, with the teacher's logits [C, V] of the same tokens. What it keeps of them
stays in memory.
"""


def score_distillation(
    student: Readout,
    teacher: Readout,
    responses: Tensor,
    *,
    temperature: float,
    alpha: float,
    top_k: int | None,
    tail_bucket: bool,
    observe: Observer | None = None,
) -> TokenScores:
    """Divergence of student and teacher at every response token: that of `jensen_shannon`, with its gradient.

    Args:
        student: of N tokens, any precision.
        teacher: of the same tokens after the self-teacher's prompts.
        responses: [N] sampled token ids.
        temperature: of the rollout sampler.
        alpha: as `divergence_on_support`.
        top_k: as `student_support`.
        tail_bucket: as `student_support`.
        observe: is shown the logits while they are there, for which the student's chunk stays beside the teacher's.
    """
    if top_k is not None and top_k >= student.vocabulary:
        top_k = None
    how = _Distillation(Readout(teacher.features.detach(), teacher.weight, teacher.bias), alpha, top_k, tail_bucket, observe)
    divergence, log_probs, entropy = _score(student, responses, temperature, how)
    return TokenScores(divergence, log_probs, entropy)


def score_sampled(student: Readout, responses: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probability, entropy) [N] of sampled tokens [N] at the sampled temperature, chunked like the distillation."""
    _, log_probs, entropy = _score(student, responses, temperature, None)
    return log_probs, entropy


def importance_weights(log_probs: Tensor, rollout_log_probs: Tensor, *, clip: float | None) -> Tensor:
    """min(exp(log pi_now - log pi_rollout), clip), without gradient (SDPO code; log-ratio clamped to +-20)."""
    if clip is None:
        return torch.ones_like(log_probs)
    ratio = (log_probs - rollout_log_probs).detach().clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return ratio.exp().clamp(max=clip)


def aggregate(
    values: Tensor, lengths: Sequence[int], *, how: Literal["token_mean", "sequence_mean"], tokens: int, sequences: int
) -> Tensor:
    """A micro-batch's share of the whole batch's mean; the shares of all micro-batches add up to it.

    Args:
        values: [N] of the response tokens, row after row.
        lengths: of the micro-batch's responses; their sum is N.
        how: mean over tokens (SDPO code), or over a response's tokens and then responses (Eq. 1).
        tokens: response tokens of the WHOLE batch.
        sequences: responses of the WHOLE batch.
    """
    if how == "token_mean":
        return values.sum() / tokens
    return torch.stack([row.mean() for row in values.split(list(lengths))]).sum() / sequences


@dataclass(frozen=True, slots=True)
class _Distillation:
    teacher: Readout
    alpha: float
    top_k: int | None
    tail_bucket: bool
    observe: Observer | None


def _score(student: Readout, responses: Tensor, temperature: float, how: _Distillation | None) -> Any:
    return _Scores.apply(student.features, student.weight, student.bias, responses, temperature, how)  # type: ignore[no-untyped-call]


class _Scores(torch.autograd.Function):
    """(divergence, log-probability, entropy), each [N].

    With x the scaled logits and L = logsumexp x, everything depends on x through x_k - L at a few tokens k. So the gradient
    is the slopes at those k, less their sum times the softmax; slopes are taken in the forward pass, where the teacher is at hand.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        responses: Tensor,
        temperature: float,
        how: _Distillation | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        student = Readout(features, weight, bias)
        parts = [_score_chunk(student, responses, span, temperature, how) for span in _spans(student, how)]
        divergence, log_probs, entropy, normalizer, indices, slopes = (_joined(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(features, weight, bias, responses, normalizer, indices, slopes)
        ctx.temperature = temperature
        ctx.how = how if how is not None and how.top_k is None else None
        ctx.mark_non_differentiable(entropy)
        ctx.set_materialize_grads(False)
        return divergence, log_probs, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_divergence: Tensor | None, by_log_probs: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        features, weight, bias, responses, normalizer, indices, slopes = ctx.saved_tensors
        student, how = Readout(features, weight, bias), ctx.how
        by_features, by_weight, by_bias = ctx.needs_input_grad[:3]
        spans = [*_spans(student, how)]
        for_features = torch.empty_like(features) if by_features else None
        for_weight = _LongSum(weight, len(spans)) if by_weight else None
        for_bias = _LongSum(bias, len(spans)) if by_bias else None
        for span in spans:
            x = _scaled(student.part(span), ctx.temperature)
            pulls = []  # (tokens [C, k], slopes [C, k]) of x_k - L
            if by_divergence is not None and slopes is not None:
                pulls.append((indices[span], slopes[span] * by_divergence[span].unsqueeze(-1)))
            if by_log_probs is not None:
                pulls.append((responses[span].unsqueeze(-1), by_log_probs[span].unsqueeze(-1)))
            by_logits = torch.exp(x - normalizer[span].unsqueeze(-1)).mul_(_minus_total(pulls, x))
            for tokens, values in pulls:
                by_logits.scatter_add_(-1, tokens, values)
            if by_divergence is not None and how is not None:
                by_logits += _whole_slopes(x, _scaled(how.teacher.part(span), ctx.temperature), how.alpha, by_divergence[span])
            del x
            by_logits = by_logits.div_(ctx.temperature).to(features.dtype)
            if for_features is not None:
                for_features[span] = by_logits if weight is None else by_logits @ weight
            if for_weight is not None:
                for_weight.next().addmm_(by_logits.T, features[span])
            if for_bias is not None:
                for_bias.next().add_(by_logits.sum(0))
        weight_gradient = None if for_weight is None else for_weight.total()
        return for_features, weight_gradient, None if for_bias is None else for_bias.total(), None, None, None


def _score_chunk(
    student: Readout, responses: Tensor, span: slice, temperature: float, how: _Distillation | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Divergence, log-probability, entropy and normaliser [C] of a chunk's tokens, the student's top K [C, K] and the slopes there."""
    x = _scaled(student.part(span), temperature)
    normalizer, entropy = _normalizer_and_entropy(x)
    sampled = responses[span]
    log_probs = x.gather(-1, sampled.unsqueeze(-1)).squeeze(-1) - normalizer
    if how is None:
        return torch.zeros_like(entropy), log_probs, entropy, normalizer, None, None
    top, indices = (None, None) if how.top_k is None else torch.topk(x, how.top_k, dim=-1, sorted=False)
    chunk = Chunk(span, sampled, x, normalizer, indices)
    if top is None or indices is None:
        y = _scaled(how.teacher.part(span), temperature)
        divergence, slopes = jensen_shannon(x, y, alpha=how.alpha, top_k=None), None
    else:
        if how.observe is None:
            del x, chunk
        y = _scaled(how.teacher.part(span), temperature)
        reference = teacher_on_support(y, indices, tail_bucket=how.tail_bucket)
        divergence, slopes = _divergence_and_slopes(top - normalizer.unsqueeze(-1), reference, how)
    if how.observe is not None:
        how.observe(chunk, y)
    return divergence, log_probs, entropy, normalizer, indices, slopes


class _LongSum:
    """A sum of `terms` terms. In half precision a long one loses much of what comes late, so it is then a sum of shorter sums."""

    def __init__(self, like: Tensor, terms: int) -> None:
        self._sum = torch.zeros_like(like)
        short = terms < 3 or like.dtype in (torch.float32, torch.float64)
        self._part = None if short else torch.zeros_like(like)
        self._length = math.isqrt(terms)
        self._terms = 0

    def next(self) -> Tensor:
        """To which the next term is to be added."""
        if self._part is None:
            return self._sum
        if self._terms == self._length:
            self._sum += self._part
            self._part.zero_()
            self._terms = 0
        self._terms += 1
        return self._part

    def total(self) -> Tensor:
        return self._sum if self._part is None else self._sum.add_(self._part)


def _spans(student: Readout, how: _Distillation | None) -> Iterator[slice]:
    tokens = CHUNK_LOGITS // student.vocabulary
    if how is not None and how.top_k is None:
        tokens //= WHOLE_VOCABULARY_COST
    tokens = max(1, tokens)
    for start in range(0, len(student.features), tokens):
        yield slice(start, start + tokens)


def _scaled(part: Readout, temperature: float) -> Tensor:
    logits = part.logits()
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide if temperature == 1 else wide / temperature


def _normalizer_and_entropy(x: Tensor) -> tuple[Tensor, Tensor]:
    """(logsumexp, entropy) of [C, V], each [C]."""
    top = x.amax(-1, keepdim=True)
    below = x - top
    weights = below.exp()
    mass = weights.sum(-1)
    log_mass = mass.log()
    entropy = log_mass - weights.mul_(below).sum(-1) / mass
    return top.squeeze(-1) + log_mass, entropy.clamp(min=0.0)


def _divergence_and_slopes(log_probs: Tensor, reference: Tensor, how: _Distillation) -> tuple[Tensor, Tensor]:
    """Divergence [C] from the student's log-probabilities [C, K] on its top K, and its derivative by each of them [C, K]."""
    with torch.enable_grad():
        log_probs.requires_grad_()
        divergence = divergence_on_support(buckets(log_probs, how.tail_bucket), reference, how.alpha)
        (slopes,) = torch.autograd.grad(divergence.sum(), log_probs)
    return divergence.detach(), slopes


def _whole_slopes(x: Tensor, y: Tensor, alpha: float, by_divergence: Tensor) -> Tensor:
    """Derivative of the divergence over the whole vocabulary by the student's logits [C, V]."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slopes,) = torch.autograd.grad(jensen_shannon(x, y, alpha=alpha, top_k=None), x, by_divergence)
    return slopes


def _minus_total(pulls: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    total = x.new_zeros((len(x), 1))
    for _, values in pulls:
        total -= values.sum(-1, keepdim=True)
    return total


def _joined(column: tuple[Any, ...]) -> Any:
    return None if column[0] is None else torch.cat(column)
