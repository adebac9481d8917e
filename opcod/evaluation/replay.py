"""Asking a self-teacher again: the same question, with other words in its context. What would other feedback have done?

Every arm draws from the same stream of random numbers, so that arms differ by their prompts alone, as far as sampling can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from opcod.config import ExperimentConfig
from opcod.distillation.self_teacher import fitted_teacher_messages
from opcod.evaluation.intervals import wilson
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy, question_messages
from opcod.seeds import derive_seed
from opcod.tasks.verifiers import Verifier
from opcod.types import Message, Question

ArmName = Literal["question", "recorded", "edited"]
"""The question alone; with what the self-teacher was shown then; with what it is shown now."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the self-teacher is shown besides the question."""

    solution: str | None
    feedback: str | None

    def __bool__(self) -> bool:
        return bool(self.solution or self.feedback)


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer and what the verifier found."""

    text: str
    tokens: int
    correct: bool
    extracted: str | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class Arm:
    """The answers to one prompt. `low` and `high` bound the accuracy, 95 % (Wilson)."""

    name: ArmName
    prompt: str
    answers: tuple[Answer, ...]
    accuracy: float
    low: float
    high: float


def contexts(recorded: Context, edited: Context) -> dict[ArmName, Context]:
    """The arms that differ."""
    arms: dict[ArmName, Context] = {"question": Context(None, None)}
    if recorded:
        arms["recorded"] = recorded
    if edited and edited != recorded:
        arms["edited"] = edited
    return arms


def ask_again(
    self_teacher: Policy,
    config: ExperimentConfig,
    question: Question,
    arms: dict[ArmName, Context],
    verifier: Verifier,
    *,
    samples: int,
    number: int,
) -> Iterator[Arm]:
    """Sample `samples` answers in each arm with the run's own sampler, arm by arm. `number` names the replay: another draws otherwise."""
    generation = config.generation
    params = SamplingParams(generation.max_response_tokens, generation.temperature, generation.top_p, samples)
    seed = derive_seed(config.seed, "replay", question.domain, number)
    for name, context in arms.items():
        messages = _messages(self_teacher, config, question, context)
        (responses,) = self_teacher.respond([self_teacher.prompt(messages)], params, seed=seed)
        answers = []
        for response in responses:
            found = verifier(response.text, question.answer)
            made = response.generation
            answers.append(Answer(response.text, len(made.token_ids), found.correct, found.extracted, not made.finished))
        right = sum(answer.correct for answer in answers)
        yield Arm(name, self_teacher.prompt_text(messages), tuple(answers), right / samples, *wilson(right, samples))


def _messages(policy: Policy, config: ExperimentConfig, question: Question, context: Context) -> Sequence[Message]:
    if not context:
        return question_messages(question)
    teacher = config.method.teacher
    return fitted_teacher_messages(
        teacher.template,
        question,
        solution=context.solution,
        feedback=context.feedback,
        max_tokens=teacher.max_tokens,
        count_tokens=lambda messages: len(policy.prompt(messages)),
    )
