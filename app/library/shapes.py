"""Answers about students that are being taught or talked to."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.shapes import ErrorShape, Shape

JobState = Literal["queued", "running", "completed", "failed", "cancelled"]


class LossCurve(Shape):
    """Loss by step, in columns. Where `width` is above 1 an entry stands for so many neighbouring steps."""

    width: int = Field(description="Steps of one entry.")
    first: list[int] = Field(description="First step of each entry, from 1.")
    last: list[int] = Field(description="Last step of each entry.")
    mean: list[float] = Field(description="Mean loss, nats a learned token.")
    low: list[float] = Field(description="Smallest loss.")
    high: list[float] = Field(description="Largest loss.")


class LookScore(Shape):
    """Accuracy on validation questions, with its 95 % bootstrap interval."""

    score: float = Field(description="Mean accuracy, 0 to 1.")
    low: float = Field(description="Lower end of the interval.")
    high: float = Field(description="Upper end of the interval.")
    questions: int = Field(description="Questions asked.")
    samples: int = Field(description="Answers a question.")
    majority_baseline: float = Field(description="Score of always giving the most frequent answer.")


class LogLine(Shape):
    """A line of a fine-tuning's log."""

    at: datetime = Field(description="When.")
    text: str = Field(description="What.")


class Specialist(Shape):
    """A student that is being made, or was, by fine-tuning."""

    id: int = Field(description="Number of the job.")
    name: str = Field(description="What the student is called once it is made.")
    owner: str = Field(description="Who asked for it.")
    state: JobState = Field(description="`completed`: the student is on the list.")
    model: str = Field(description="The base model.")
    domain: str = Field(description="Whose training questions teach it.")
    learn: Literal["solutions", "answers"] = Field(description="What of them.")
    progress: float = Field(description="Fraction that is done.")
    phase: str | None = Field(description="What it is at, in words; null while it waits.")
    step: int = Field(description="Updates done.")
    steps: int | None = Field(description="Updates in all; null until they are known.")
    eta_seconds: float | None = Field(description="Seconds until the updates are done, at the pace so far.")
    examples: int | None = Field(description="Training questions that are learned.")
    skipped: int | None = Field(description="Those that are longer than `max_tokens`, which are left out.")
    curve: LossCurve = Field(description="The loss so far.")
    before: LookScore | None = Field(description="Score on validation questions before; null where it is not looked at or not yet.")
    after: LookScore | None = Field(description="And after.")
    change: float | None = Field(description="After less before.")
    log: list[LogLine] = Field(description="What happened, the newest last.")
    student_id: int | None = Field(description="The student that was made.")
    error: ErrorShape | None = Field(description="Why it failed.")
    worker: str | None = Field(description="Who works on it, or did.")
    created_at: datetime = Field(description="When it was asked for.")
    started_at: datetime | None = Field(description="When a worker took it.")
    ended_at: datetime | None = Field(description="When it ended.")


class ChatStudent(Shape):
    """Who was asked."""

    student_id: int = Field(description="Number of the student.")
    name: str = Field(description="What it was called.")
    model: str = Field(description="What it was.")


class ChatSample(Shape):
    """One sampled answer."""

    text: str = Field(description="As sampled, without special tokens.")
    tokens: int = Field(description="How many.")
    truncated: bool = Field(description="Whether `max_tokens` cut it.")
    correct: bool | None = Field(description="The verifier's word; null for a question without a known answer.")
    extracted: str | None = Field(description="The answer that the verifier found.")


class ChatAnswer(Shape):
    """What one student said."""

    samples: list[ChatSample] = Field(description="Its answers.")
    prompt_tokens: int = Field(description="Length of the question as it saw it.")
    seconds: float = Field(description="Time to sample them.")


class Chat(Shape):
    """One question to one or two students, and what they said."""

    id: int = Field(description="Number of the job.")
    owner: str = Field(description="Who asked.")
    state: JobState = Field(description="Of the job.")
    students: list[ChatStudent] = Field(description="Who was asked.")
    question: str = Field(description="What was asked.")
    system: str | None = Field(description="System prompt.")
    domain: str | None = Field(description="The domain that the question is of.")
    question_id: str | None = Field(description="Its id there.")
    answer: str | None = Field(description="Its reference answer, which no student saw.")
    temperature: float = Field(description="0 is greedy.")
    top_p: float = Field(description="Nucleus.")
    max_tokens: int = Field(description="Longest answer.")
    samples: int = Field(description="Answers of each.")
    seed: int = Field(description="Of the sampling.")
    answers: list[ChatAnswer] = Field(description="In the order of `students`; those that are not there yet are missing.")
    error: ErrorShape | None = Field(description="Why it failed.")
    created_at: datetime = Field(description="When it was asked.")
    ended_at: datetime | None = Field(description="When it ended.")
