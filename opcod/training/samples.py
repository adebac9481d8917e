"""A rollout on its way through a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opcod.distillation.lens import LOG_DECIMALS, LOG_FLOOR, WEIGHT_DECIMALS, TokenView
from opcod.generation.policy import Response
from opcod.students.pieces import TokenPieces
from opcod.types import Feedback, Question, Rollout, TokenLens


@dataclass(slots=True)
class Sample:
    """One rollout on its way through the step; turned into an `Exchange` at its end."""

    question: Question
    group: int
    prompt: list[int]
    response: Response
    rollout: Rollout
    own_solution: str | None = None
    tutor: str | None = None
    feedback: Feedback | None = None
    teacher_prompt: list[int] | None = None
    teacher_text: str | None = None
    counted: bool = False
    """Whether an update learned from it: from its self-teacher, or, as in GRPO, from a reward unlike its group's mean."""
    loss: tuple[float, ...] | None = None
    """Divergence from the self-teacher, in nats a token."""
    again: Rollout | None = None
    """The tutee's answer with the feedback in its prompt."""
    weight: tuple[float, ...] | None = None
    view: TokenView | None = None


def token_lens(pieces: TokenPieces, sample: Sample) -> TokenLens:
    """The rollout token by token. Without a self-teacher there is only what the sampler reported of it."""
    generation, view = sample.response.generation, sample.view
    places: dict[str, int] = {}
    tokens = tuple([places.setdefault(text, len(places)) for text in pieces.split(generation.token_ids)])
    mask = (sample.counted,) * len(tokens)
    if view is None:
        student = _rounded(generation.log_probs, LOG_DECIMALS)
        weight = _rounded(sample.weight, WEIGHT_DECIMALS) if sample.weight else None
        return TokenLens(tuple(places), tokens, mask, student, weight=weight)
    of = pieces.of
    alternatives = tuple([tuple([(places.setdefault(of(token), len(places)), p, q) for token, p, q in seen]) for seen in view.alternatives])
    return TokenLens(tuple(places), tokens, mask, view.student, view.teacher, view.divergence, view.weight, alternatives)


def _rounded(values: Sequence[float], decimals: int) -> tuple[float, ...]:
    return tuple([LOG_FLOOR if value < LOG_FLOOR else round(value, decimals) for value in values])
