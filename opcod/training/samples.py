"""A rollout on its way through a step."""

from __future__ import annotations

from dataclasses import dataclass

from opcod.generation.policy import Response
from opcod.types import Feedback, Question, Rollout


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
    loss: tuple[float, ...] | None = None
    again: Rollout | None = None
    """The tutee's answer with the feedback in its prompt."""
