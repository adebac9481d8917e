"""A rollout on its way through a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opcod.distillation.lens import LOG_DECIMALS, LOG_FLOOR, TokenView
from opcod.generation.policy import Response
from opcod.students.pieces import TokenPieces
from opcod.types import Feedback, Question, Rollout, TokenLens

DIVERGENCE_DECIMALS = 5


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
    alternatives = None
    if view is not None:
        of = pieces.of
        alternatives = tuple(
            [tuple([(places.setdefault(of(token), len(places)), p, q) for token, p, q in seen]) for seen in view.alternatives]
        )
    return TokenLens(
        pieces=tuple(places),
        tokens=tokens,
        mask=(sample.counted,) * len(tokens),
        student=view.student if view else _rounded(generation.log_probs, LOG_DECIMALS),
        teacher=view.teacher if view else None,
        divergence=_rounded(sample.loss, DIVERGENCE_DECIMALS) if view and sample.loss else None,
        weight=_rounded(sample.weight, LOG_DECIMALS) if sample.weight else None,
        alternatives=alternatives,
    )


def _rounded(values: Sequence[float], decimals: int) -> tuple[float, ...]:
    return tuple([LOG_FLOOR if value < LOG_FLOOR else round(value, decimals) for value in values])
