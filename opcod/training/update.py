"""One update of the student from a batch of scored responses.

The batch is cut into micro-batches; each adds its share of the whole batch's mean, so that the gradient does not depend on the cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from opcod.config import GrpoConfig, LossConfig
from opcod.distillation.grpo import policy_losses
from opcod.distillation.lens import Lens, TokenView
from opcod.distillation.loss import aggregate, importance_weights, score_distillation, score_sampled
from opcod.distillation.micro_batches import Prompts, computed_tokens, micro_batches, questions
from opcod.distillation.readout import response_readout
from opcod.errors import NumericsError
from opcod.stopwatch import part
from opcod.students.ema import ExponentialAverage
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.team import ALONE, Team, even_shares


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
    """The batch's loss, the gradient norm before clipping, the learning rate used, each response's statistics, and how it was cut."""

    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: tuple[TokenStatistics, ...]
    micro_batch_tokens: int
    """The most tokens that a pass might compute; in a team, where fewest."""
    views: Mapping[int, TokenView] = field(default_factory=dict)
    """Row of the batch -> what was seen of its tokens, for the responses that asked for it."""


@dataclass(frozen=True, slots=True)
class Learner:
    """What an update touches: the student, its moving average, its optimiser; and who shares the work."""

    model: PreTrainedModel
    teacher: ExponentialAverage | None
    optimizer: Optimizer
    pad_id: int
    micro_batches: MicroBatchSize
    team: Team = ALONE


MicroLoss = Callable[[list[int]], tuple[Tensor, Tensor, Tensor]]
"""Rows of the batch -> values with gradient, entropies and weights, each [N] of their response tokens, row after row."""

_Learnt = tuple[float, dict[int, TokenStatistics], int]
"""A loss, what was seen of the rows of the batch that it is of, and the most tokens of a pass."""


def distill(learner: Learner, batch: Sequence[ScoredResponse], loss: LossConfig, *, temperature: float) -> UpdateReport:
    """One self-distillation update (paper Eq. 1) over a non-empty batch, then the teacher's moving average."""
    teacher = learner.teacher
    if teacher is None:
        raise ValueError("self-distillation needs a teacher")
    views: dict[int, TokenView] = {}

    def micro(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        chosen = [batch[row] for row in rows]
        responses = [one.response for one in chosen]
        asked = [one.alternatives for one in chosen]
        lens = Lens(responses, asked) if any(count is not None for count in asked) else None
        with part("teacher_forward"), torch.no_grad():
            teacher_prompts = [one.teacher_prompt or () for one in chosen]
            teacher_readout = response_readout(teacher.model, teacher_prompts, responses, pad_id=learner.pad_id)
        with part("student_forward"):
            student_readout = response_readout(learner.model, [one.prompt for one in chosen], responses, pad_id=learner.pad_id)
        with part("loss"):
            scores = score_distillation(
                student_readout,
                teacher_readout,
                _joined(responses, learner),
                temperature=temperature,
                alpha=loss.alpha,
                top_k=loss.top_k,
                tail_bucket=loss.tail_bucket,
                observe=lens,
            )
            sampled = _joined([one.rollout_log_probs for one in chosen], learner)
            weights = importance_weights(scores.log_probs, sampled, clip=loss.importance_clip)
            if lens is not None:
                seen = lens.views(scores.divergence, weights)
                views.update((row, view) for row, view in zip(rows, seen, strict=True) if view is not None)
        return scores.divergence, scores.entropy, weights

    passes = [[one.prompt for one in batch], [one.teacher_prompt or () for one in batch]]
    report = _update(learner, batch, micro, passes, how=loss.aggregation)
    return replace(report, views={row: view for seen in learner.team.gather(views) for row, view in seen.items()})


def reinforce(
    learner: Learner,
    batch: Sequence[ScoredResponse],
    grpo: GrpoConfig,
    *,
    temperature: float,
    old_log_probs: Sequence[Sequence[float]] | None,
) -> UpdateReport:
    """One GRPO update over a non-empty batch. `old_log_probs` None: this is the step's first update, so old is now."""

    def micro(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        chosen = [batch[row] for row in rows]
        with part("student_forward"):
            readout = response_readout(
                learner.model, [one.prompt for one in chosen], [one.response for one in chosen], pad_id=learner.pad_id
            )
        with part("loss"):
            log_probs, entropy = score_sampled(readout, _joined([one.response for one in chosen], learner), temperature=temperature)
        sampled = _joined([one.rollout_log_probs for one in chosen], learner)
        old = log_probs.detach() if old_log_probs is None else _joined([old_log_probs[row] for row in rows], learner)
        advantages = _joined([[one.advantage] * len(one.response) for one in chosen], learner)
        losses = policy_losses(log_probs, old, sampled, advantages, clip=grpo.clip, importance_threshold=grpo.importance_threshold)
        return losses, entropy, torch.exp(log_probs.detach() - sampled)

    return _update(learner, batch, micro, [[one.prompt for one in batch]], how="token_mean", weighted=False)


@torch.no_grad()
def sampled_log_probs(learner: Learner, batch: Sequence[ScoredResponse], *, temperature: float) -> list[list[float]]:
    """Each response's token log-probabilities under the student as it is, by the training forward.

    Raises:
        ResourceError: there is no memory for a single response.
    """
    prompts, responses = [one.prompt for one in batch], [one.response for one in batch]
    size = learner.micro_batches
    learner.model.train(False)

    def score(share: list[int]) -> list[list[float]]:
        found: dict[int, list[float]] = {}
        while left := [row for row in share if row not in found]:
            groups = _micro_batches(learner, left, [prompts], responses, limit=size.begin())
            try:
                for rows in groups:
                    found |= one_pass(rows)
            except torch.OutOfMemoryError:
                size.ran_out(computed_tokens(learner.model, rows, [prompts], responses) for rows in groups if len(rows) > 1)
            if len(found) < len(share):
                _let_go()
        return [found[row] for row in share]

    def one_pass(rows: list[int]) -> dict[int, list[float]]:
        chosen = [responses[row] for row in rows]
        readout = response_readout(learner.model, [prompts[row] for row in rows], chosen, pad_id=learner.pad_id)
        log_probs, _ = score_sampled(readout, _joined(chosen, learner), temperature=temperature)
        return {row: one.tolist() for row, one in zip(rows, log_probs.split([len(one) for one in chosen]), strict=True)}

    with learner.team.whole(learner.model):
        return learner.team.spread(_sizes([prompts], responses), score)


def _update(
    learner: Learner,
    batch: Sequence[ScoredResponse],
    micro: MicroLoss,
    passes: Sequence[Prompts],
    *,
    how: Literal["token_mean", "sequence_mean"],
    weighted: bool = True,
) -> UpdateReport:
    if not batch:
        raise ValueError("an update needs at least one response")
    team, size = learner.team, learner.micro_batches
    responses = [one.response for one in batch]
    share = shares_of_questions(learner.model, passes, responses, team.size)[team.rank]
    teacher = learner.teacher.model if learner.teacher else None
    found: list[_Learnt] | None = None
    learner.model.train()
    try:
        while found is None:
            own: _Learnt | None = None
            with team.whole(learner.model, teacher):
                limit = size.begin()
                groups = _micro_batches(learner, share, passes, responses, limit=limit)
                try:
                    own = (*_gradients(learner, batch, micro, groups, how=how, weighted=weighted), limit)
                except torch.OutOfMemoryError:
                    size.ran_out(computed_tokens(learner.model, rows, passes, responses) for rows in groups if len(rows) > 1)
                else:
                    size.made(computed_tokens(learner.model, rows, passes, responses) for rows in groups)
                done = [one for one in team.gather(own) if one is not None]
                if len(done) == team.size:
                    found = done
                    team.sum_gradients(learner.model, learner.pad_id)
                else:
                    learner.model.zero_grad(set_to_none=True)  # the loss is a sum over micro-batches: smaller ones have the same
            if found is None:
                _let_go()
    finally:
        learner.model.train(False)
    total = sum(loss for loss, _, _ in found)
    by_row = {row: statistics for _, rows, _ in found for row, statistics in rows.items()}
    rate = learner.optimizer.learning_rate
    with part("optimizer"):
        norm = learner.optimizer.step()
        if learner.teacher is not None:
            learner.teacher.update(learner.model)  # after the optimiser's step (method section 10)
    return UpdateReport(total, norm, rate, tuple(by_row[row] for row in range(len(batch))), min(limit for _, _, limit in found))


def shares_of_questions(model: nn.Module, passes: Sequence[Prompts], responses: Sequence[Sequence[int]], processes: int) -> list[list[int]]:
    """The rows that each process scores, every row once: of whole questions, whose prompts are computed once, if there are enough."""
    if processes == 1:
        return [[*range(len(responses))]]
    asked = questions(passes[0])
    groups = asked if len(asked) >= processes else [[row] for row in range(len(responses))]
    shares = even_shares([computed_tokens(model, rows, passes, responses) for rows in groups], processes)
    return [sorted(row for place in share for row in groups[place]) for share in shares]


def _sizes(passes: Sequence[Prompts], responses: Sequence[Sequence[int]]) -> list[int]:
    """Tokens of each row in all its passes."""
    return [sum(len(prompts[row]) + len(response) for prompts in passes) for row, response in enumerate(responses)]


def _micro_batches(
    learner: Learner, share: Sequence[int], passes: Sequence[Prompts], responses: Sequence[Sequence[int]], *, limit: int
) -> list[list[int]]:
    """The rows of a share, in groups that compute at most `limit` tokens."""
    if not share:
        return []
    own = [[prompts[row] for row in share] for prompts in passes]
    groups = micro_batches(learner.model, own, [responses[row] for row in share], max_tokens=limit)
    return [[share[place] for place in group] for group in groups]


def _gradients(
    learner: Learner,
    batch: Sequence[ScoredResponse],
    micro: MicroLoss,
    groups: Sequence[list[int]],
    *,
    how: Literal["token_mean", "sequence_mean"],
    weighted: bool,
) -> tuple[float, dict[int, TokenStatistics]]:
    """The groups' part of the batch's loss, its gradient left in the weights."""
    tokens = sum(len(one.response) for one in batch)
    statistics: dict[int, TokenStatistics] = {}
    total = 0.0
    for rows in groups:
        values, entropy, weights = micro(rows)
        lengths = [len(batch[row].response) for row in rows]
        weighed = values * weights if weighted else values
        share = aggregate(weighed, lengths, how=how, tokens=tokens, sequences=len(batch))
        total += _finite(float(share.detach()), learner.optimizer.updates + 1)
        with part("student_backward"):
            share.backward()
        columns = [each.detach().tolist() for each in (values, entropy, weights)]
        for row, end, length in zip(rows, accumulate(lengths), lengths, strict=True):
            statistics[row] = TokenStatistics(*(tuple(column[end - length : end]) for column in columns))
    return total, statistics


def _let_go() -> None:
    """Give back what filled the memory; not in the handler of its error, which keeps it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _finite(loss: float, update: int) -> float:
    if not math.isfinite(loss):
        raise NumericsError(
            f"The loss is not finite ({loss}) at update {update}.",
            advice="Lower the learning rate, use float32, or look at the step's exchanges for degenerate responses.",
        )
    return loss


def _joined(rows: Sequence[Sequence[float]], learner: Learner) -> Tensor:
    """Values of every response token, [N], row after row."""
    return torch.tensor([*chain.from_iterable(rows)], device=learner.model.device)
