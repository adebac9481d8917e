"""Counts of work that time goes into, for one student: sampling and updates.

Each is a row of features whose weighted sum is the time; `opcod.estimation.clock` finds the weights. They are chosen so that
they carry over from one size to another: what a device does a call, a weight read, a multiplication, a cached key.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from opcod.estimation.models import ModelShape

Features = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Responses to sample: `each` of them to each of `prompts` prompts. Lengths in tokens; `longest` ends a batch."""

    prompts: float
    each: int
    prompt: float
    response: float
    longest: float
    batch_size: int

    @property
    def responses(self) -> float:
        return self.prompts * self.each

    @property
    def sampled(self) -> float:
        """Tokens that are sampled."""
        return self.responses * self.response


@dataclass(frozen=True, slots=True)
class Update:
    """Responses to learn from, `each` of them to the same prompt. Lengths in tokens; `teacher_prompt` is None where no teacher scores
    (GRPO). A self-teacher's prompt begins with the student's.
    """

    responses: float
    each: int
    prompt: float
    response: float
    teacher_prompt: float | None
    micro_batch_tokens: int
    recomputed: bool
    """Activations are computed again in the backward pass."""
    trainable: int
    updates: float = 1.0

    @property
    def learned(self) -> float:
        """Tokens that pass through the student: what prompts share once."""
        return self.responses * (self.prompt / self.each + self.response)

    @property
    def taught(self) -> float:
        """Tokens that pass through its teacher."""
        return 0.0 if self.teacher_prompt is None else self.learned + self.responses * max(0.0, self.teacher_prompt - self.prompt)


def sampling_features(shape: ModelShape, job: Sampling) -> Features:
    """Layers called, weights read, multiplications and keys read of a sampling job."""
    if job.prompts <= 0:
        return (0.0, 0.0, 0.0, 0.0)
    batches = ceil(job.prompts / max(1, job.batch_size // job.each))
    calls = batches * max(1.0, job.longest)
    context = job.prompt + job.response / 2
    work = job.prompts * job.prompt * _per_token(shape, job.prompt / 2) + job.sampled * _per_token(shape, context)
    return (calls * shape.layers, calls * shape.parameters, work, job.sampled * context * 2 * shape.layers * shape.key_value)


def update_features(shape: ModelShape, job: Update) -> Features:
    """Layers called, multiplications, vocabulary entries compared, and weights updated."""
    if job.responses <= 0:
        return (0.0, 0.0, 0.0, 0.0)
    batches = ceil(max(job.learned, job.taught) / job.micro_batch_tokens)
    passes = 4 if job.recomputed else 3  # a backward pass takes two forward ones
    work = passes * job.learned * _per_token(shape, (job.prompt + job.response) / 2)
    if job.teacher_prompt is not None:
        work += job.taught * _per_token(shape, (job.teacher_prompt + job.response) / 2)
    both = 1 if job.teacher_prompt is None else 2
    compared = both * job.responses * job.response * shape.vocabulary
    return (batches * shape.layers * (passes + both - 1), work, compared, job.updates * job.trainable)


def _per_token(shape: ModelShape, context: float) -> float:
    """Multiplications of one token: with each weight, and in attention with each key and value before it."""
    return shape.parameters + 2 * shape.layers * shape.attention * context
