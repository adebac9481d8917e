"""What charts are drawn from, and what they warn of. Fields may be added, never renamed."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.shapes import Shape
from opcod.types import FeedbackOutcome

Quantity = Literal["response_tokens", "feedback_characters", "divergence"]
"""What is counted by size: tokens of a rollout, characters of a feedback, a rollout's mean divergence in nats a token."""
AlertKind = Literal[
    "loss_not_finite", "kept_rate_collapse", "length_collapse", "entropy_collapse", "gate_shut_for_all", "memory_near_limit"
]


class Curve(Shape):
    """One metric over the steps, as columns of equal length: one entry for each run of `width` steps that has points."""

    name: str = Field(description="The metric's name.")
    first: list[int] = Field(description="First step with a point.")
    last: list[int] = Field(description="Last step with a point; the same as `first` where nothing is summed up.")
    count: list[int] = Field(description="Points that the entry stands for.")
    mean: list[float] = Field(description="Their mean; the value itself where there is one.")
    low: list[float] = Field(description="The smallest of them: an outlier is never lost.")
    high: list[float] = Field(description="The largest of them.")
    at: list[datetime] = Field(description="When the last of them was measured.")


class Curves(Shape):
    """Metrics over the steps, with no more entries than were asked for."""

    width: int = Field(description="Steps that one entry stands for. 1: every point as it was measured.")
    items: list[Curve] = Field(description="By name; names that have no point in this range are left out.")


class Tally(Shape):
    """A student's exchanges within some steps, counted."""

    student: str = Field(description="The tutee.")
    first: int = Field(description="First step.")
    last: int = Field(description="Last step.")
    first_round: int = Field(description="Round of the first step.")
    last_round: int = Field(description="Round of the last step.")
    rollouts: int = Field(description="Exchanges.")
    correct: int = Field(description="Those whose rollout was correct.")
    truncated: int = Field(description="Those whose rollout was cut at its longest length.")
    tokens: int = Field(description="Tokens of the rollouts.")
    tokens_before: int = Field(description="Tokens of this student's rollouts before the first step.")
    outcomes: dict[FeedbackOutcome, int] = Field(description="Feedbacks by outcome; those that did not occur are left out.")
    begun_at: datetime = Field(description="When the first step's exchanges were recorded.")
    at: datetime = Field(description="When the last step's exchanges were recorded.")


class Tallies(Shape):
    """Exchanges counted by step or by round."""

    width: int = Field(description="Steps that one entry stands for; 0 where each stands for a round.")
    items: list[Tally] = Field(description="By student, then by step.")


class HistogramBin(Shape):
    """How many lie in [low, high)."""

    low: float = Field(description="Lower end. Bins are a quarter of an octave wide; 0 to 0 holds the zeros.")
    high: float = Field(description="Upper end.")
    count: int = Field(description="How many.")


class Histogram(Shape):
    """How a quantity is spread over a student's exchanges within some steps."""

    student: str = Field(description="The tutee.")
    first: int = Field(description="First step.")
    last: int = Field(description="Last step.")
    bins: list[HistogramBin] = Field(description="From small to large; empty bins are left out.")


class Histograms(Shape):
    """Histograms over the steps."""

    quantity: Quantity = Field(description="What is counted by size.")
    width: int = Field(description="Steps that one entry stands for.")
    items: list[Histogram] = Field(description="By student, then by step.")


class Alert(Shape):
    """Something in a run that its owner should look at now."""

    kind: AlertKind = Field(description="What sort of thing.")
    student: str | None = Field(description="Whom it concerns; null: the run.")
    message: str = Field(description="What is seen, with its figures.")
    advice: str = Field(description="What to try.")
    metric: str | None = Field(description="Curve that shows it.")
    round: int = Field(description="Round in which it is so.")
