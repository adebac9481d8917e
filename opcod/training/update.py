"""One update of the student from a batch of scored responses.

The batch is cut into micro-batches of similar length; each adds its share of the whole batch's mean, so that the
gradient does not depend on the cut.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opcod.config import GrpoConfig, LossConfig
from opcod.distillation.grpo import policy_losses
from opcod.distillation.lens import TokenView, view_tokens
from opcod.distillation.loss import aggregate, importance_weights, score_distillation, score_sampled
from opcod.distillation.readout import response_readout
from opcod.distillation.scoring import length_groups, pad
from opcod.errors import NumericsError, ResourceError
from opcod.stopwatch import part
from opcod.students.ema import ExponentialAverage
from opcod.training.optimizer import Optimizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """One response that enters the loss.

    `teacher_prompt` is None for GRPO, `advantage` is 0 for distillation.
    """

    prompt: Sequence[int]
    response: Sequence[int]
    rollout_log_probs: Sequence[float]
    teacher_prompt: Sequence[int] | None = None
    advantage: float = 0.0
    alternatives: int | None = None
    """How many next tokens of student and self-teacher to look at beside each sampled one; None: look at none of its tokens."""


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Per-token facts of one response, as long as it: the loss's own value (divergence or policy loss), entropy in
    nats, and importance weight.
    """

    loss: tuple[float, ...]
    entropy: tuple[float, ...]
    weight: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """The batch's loss, the gradient norm before clipping, the learning rate used, and each response's statistics."""

    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: tuple[TokenStatistics, ...]
    views: Mapping[int, TokenView] = field(default_factory=dict)
    """Row of the batch -> what was seen of its tokens, for the responses that asked for it."""


@dataclass(frozen=True, slots=True)
class Learner:
    """What an update touches: the student, its moving average, its optimiser."""

    model: PreTrainedModel
    teacher: ExponentialAverage | None
    optimizer: Optimizer
    pad_id: int
    micro_batch_tokens: int


MicroLoss = Callable[[list[int]], tuple[Tensor, Tensor, Tensor, Tensor]]
"""Rows of the batch -> values with gradient, entropies, weights and mask, each [B, T]."""


def distill(learner: Learner, batch: Sequence[ScoredResponse], loss: LossConfig, *, temperature: float) -> UpdateReport:
    """One self-distillation update (paper Eq. 1) over a non-empty batch, then the teacher's moving average."""
    teacher = learner.teacher
    if teacher is None:
        raise ValueError("self-distillation needs a teacher")
    views: dict[int, TokenView] = {}

    def micro(rows: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen = [batch[row] for row in rows]
        responses = [one.response for one in chosen]
        device = learner.model.device
        student_batch = pad([one.prompt for one in chosen], responses, pad_id=learner.pad_id, device=device)
        teacher_batch = pad([one.teacher_prompt or () for one in chosen], responses, pad_id=learner.pad_id, device=device)
        with part("teacher_forward"), torch.no_grad():
            teacher_readout = response_readout(teacher.model, teacher_batch)
        with part("student_forward"):
            student_readout = response_readout(learner.model, student_batch)
        with part("loss"):
            scores = score_distillation(
                student_readout,
                teacher_readout,
                student_batch.tokens_of(student_batch.responses),
                temperature=temperature,
                alpha=loss.alpha,
                top_k=loss.top_k,
                tail_bucket=loss.tail_bucket,
            )
        divergence, log_probs, entropy = (student_batch.in_rows(each) for each in (scores.divergence, scores.log_probs, scores.entropy))
        sampled = _as_rows([one.rollout_log_probs for one in chosen], student_batch.response_mask)
        weights = importance_weights(log_probs, sampled, clip=loss.importance_clip)
        with part("token_views"):
            start = 0
            for row in rows:
                one = batch[row]
                span = slice(start, start + len(one.response))
                start = span.stop
                if one.alternatives is not None:
                    seen = student_readout.part(span), teacher_readout.part(span)
                    views[row] = view_tokens(*seen, one.response, temperature=temperature, alternatives=one.alternatives)
        return divergence, entropy, weights, student_batch.response_mask

    lengths = [len(one.teacher_prompt or ()) for one in batch]
    return replace(_update(learner, batch, micro, lengths, how=loss.aggregation), views=views)


def reinforce(
    learner: Learner,
    batch: Sequence[ScoredResponse],
    grpo: GrpoConfig,
    *,
    temperature: float,
    old_log_probs: Sequence[Sequence[float]] | None,
) -> UpdateReport:
    """One GRPO update over a non-empty batch. `old_log_probs` None: this is the step's first update, so old is now."""

    def micro(rows: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen = [batch[row] for row in rows]
        padded = pad([one.prompt for one in chosen], [one.response for one in chosen], pad_id=learner.pad_id, device=learner.model.device)
        with part("student_forward"):
            readout = response_readout(learner.model, padded)
        with part("loss"):
            scores = score_sampled(readout, padded.tokens_of(padded.responses), temperature=temperature)
            log_probs, entropy = map(padded.in_rows, scores)
        mask = padded.response_mask
        sampled = _as_rows([one.rollout_log_probs for one in chosen], mask)
        old = log_probs.detach() if old_log_probs is None else _as_rows([old_log_probs[row] for row in rows], mask)
        advantages = log_probs.new_tensor([one.advantage for one in chosen])
        losses = policy_losses(log_probs, old, sampled, advantages, clip=grpo.clip, importance_threshold=grpo.importance_threshold)
        return losses, entropy, torch.exp(log_probs.detach() - sampled), mask

    return _update(learner, batch, micro, [len(one.prompt) for one in batch], how="token_mean", weighted=False)


@torch.no_grad()
def sampled_log_probs(learner: Learner, batch: Sequence[ScoredResponse], *, temperature: float) -> list[list[float]]:
    """Each response's token log-probabilities under the student as it is, by the training forward."""
    found: list[list[float]] = [[] for _ in batch]
    lengths = [len(one.response) for one in batch]
    learner.model.train(False)
    for rows in length_groups([len(one.prompt) for one in batch], lengths, max_tokens=learner.micro_batch_tokens):
        padded = pad([batch[r].prompt for r in rows], [batch[r].response for r in rows], pad_id=learner.pad_id, device=learner.model.device)
        readout = response_readout(learner.model, padded)
        log_probs, _ = score_sampled(readout, padded.tokens_of(padded.responses), temperature=temperature)
        for row, response in zip(rows, log_probs.split([lengths[row] for row in rows]), strict=True):
            found[row] = response.tolist()
    return found


def _update(
    learner: Learner,
    batch: Sequence[ScoredResponse],
    micro: MicroLoss,
    prompt_lengths: Sequence[int],
    *,
    how: Literal["token_mean", "sequence_mean"],
    weighted: bool = True,
) -> UpdateReport:
    if not batch:
        raise ValueError("an update needs at least one response")
    limit = learner.micro_batch_tokens
    found: tuple[float, tuple[TokenStatistics, ...]] | None = None
    learner.model.train()
    try:
        while found is None:
            groups = [*length_groups(prompt_lengths, [len(one.response) for one in batch], max_tokens=limit)]
            try:
                found = _gradients(learner, batch, micro, groups, how=how, weighted=weighted)
            except torch.OutOfMemoryError:
                learner.model.zero_grad(set_to_none=True)  # the loss is a sum over micro-batches: smaller ones have the same
                limit = _half(batch, prompt_lengths, groups)
            if found is None and torch.cuda.is_available():
                torch.cuda.empty_cache()  # outside of the handler, which keeps what filled the memory
    finally:
        learner.model.train(False)
    total, statistics = found
    rate = learner.optimizer.learning_rate
    with part("optimizer"):
        norm = learner.optimizer.step()
        if learner.teacher is not None:
            learner.teacher.update(learner.model)  # after the optimiser's step (method section 10)
    return UpdateReport(total, norm, rate, statistics)


def _gradients(
    learner: Learner,
    batch: Sequence[ScoredResponse],
    micro: MicroLoss,
    groups: Sequence[list[int]],
    *,
    how: Literal["token_mean", "sequence_mean"],
    weighted: bool,
) -> tuple[float, tuple[TokenStatistics, ...]]:
    """The batch's loss, its gradient left in the weights, and each response's statistics."""
    lengths = [len(one.response) for one in batch]
    statistics: list[TokenStatistics | None] = [None] * len(batch)
    total = 0.0
    for rows in groups:
        values, entropy, weights, mask = micro(rows)
        weighed = values * weights if weighted else values
        share = aggregate(weighed, mask, how=how, tokens=sum(lengths), sequences=len(batch))
        total += _finite(float(share.detach()), learner.optimizer.updates + 1)
        with part("student_backward"):
            share.backward()
        for place, row in enumerate(rows):
            statistics[row] = TokenStatistics(
                *(tuple(column[place, : lengths[row]].detach().tolist()) for column in (values, entropy, weights))
            )
    return total, tuple(one for one in statistics if one is not None)


def _half(batch: Sequence[ScoredResponse], prompt_lengths: Sequence[int], groups: Sequence[list[int]]) -> int:
    """Padded tokens of half the largest micro-batch.

    Raises:
        ResourceError: each is a single response already.
    """
    if all(len(rows) == 1 for rows in groups):
        raise ResourceError(
            "Out of memory in the update, with one response at a time.",
            advice="Turn on compute.gradient_checkpointing, use adapters, or shorten responses.",
            field="compute.micro_batch_tokens",
        ) from None
    widths = (max(prompt_lengths[row] for row in rows) + max(len(batch[row].response) for row in rows) for rows in groups)
    limit = max(len(rows) * width for rows, width in zip(groups, widths, strict=True)) // 2
    logger.warning("Out of memory in the update: going on with micro-batches of %d tokens. Lower compute.micro_batch_tokens.", limit)
    return limit


def _finite(loss: float, update: int) -> float:
    if not math.isfinite(loss):
        raise NumericsError(
            f"The loss is not finite ({loss}) at update {update}.",
            advice="Lower the learning rate, use float32, or look at the step's exchanges for degenerate responses.",
        )
    return loss


def _as_rows(rows: Sequence[Sequence[float]], mask: Tensor) -> Tensor:
    width = mask.shape[1]
    return torch.tensor([[*row, *([0.0] * (width - len(row)))] for row in rows], device=mask.device)
