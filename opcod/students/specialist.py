"""Making a specialist: fine-tuning a base model on the worked solutions of a domain (paper Appendix D.1)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from opcod.config import DomainConfig
from opcod.errors import DataError
from opcod.evaluation.accuracy import evaluate
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy, question_messages
from opcod.seeds import derived_random
from opcod.students.export import export_student
from opcod.students.loading import DTYPES, Student, load_student, resolve_device
from opcod.students.sft import SftExample, SftReport, sft
from opcod.students.specialist_config import SpecialistConfig
from opcod.tasks.questions import DomainData, load_domains
from opcod.tasks.verifiers import make_verifier
from opcod.types import Evaluation, Question

logger = logging.getLogger(__name__)

When = Literal["before", "after"]


def make_specialist(
    config: SpecialistConfig,
    out: Path,
    *,
    on_step: Callable[[int, int, float], None],
    on_score: Callable[[When, Evaluation], None] = lambda when, score: None,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> SftReport:
    """Fine-tune the base model on every domain's training questions and write it to `out` as an ordinary folder.

    `on_step` is told (step from 1, steps, loss); `on_score` each domain's score on its validation questions, where
    `config.look` asks for it; `on_phase` in a few words what comes now.

    Raises:
        DataError: a training question has no solution, or the data is at fault otherwise.
        ModelError: the base model cannot be loaded.
        NumericsError: the loss is not finite.
    """
    on_phase("Reading the questions")
    loaded = load_domains(config.domains)
    for note in (note for data in loaded for note in data.notes):
        logger.info("%s", note)
    lessons = examples(config, loaded)
    on_phase("Loading the base model")
    student = load_student(
        config.model,
        device=resolve_device(config.device),
        dtype=DTYPES[config.dtype],
        gradient_checkpointing=config.gradient_checkpointing,
    )
    _look(config, student, loaded, "before", on_score, on_phase)
    on_phase("Fine-tuning")
    torch.manual_seed(config.sft.seed)
    report = sft(student, lessons, config.sft, on_step=on_step)
    _look(config, student, loaded, "after", on_score, on_phase)
    on_phase("Saving")
    export_student(student, out)
    return report


def examples(config: SpecialistConfig, loaded: Sequence[DomainData]) -> list[SftExample]:
    """What there is to learn.

    Raises:
        DataError: a training question has no solution, where solutions are to be learned.
    """
    found = []
    for domain, data in zip(config.domains, loaded, strict=True):
        for question in data.train:
            if config.learn == "solutions" and question.solution is None:
                raise DataError(
                    f"Question {question.id!r} of {domain.name} has no solution to learn from.",
                    advice="Fill the column in, name it under columns.solution, remove the row, or learn the bare answers.",
                )
            completion = question.solution if config.learn == "solutions" and question.solution else bare_answer(domain, question)
            found.append(SftExample(question_messages(question), completion))
    return found


def bare_answer(domain: DomainConfig, question: Question) -> str:
    """The reference answer in the form that the domain's verifier reads."""
    answer = question.answer.strip()
    if domain.verifier.kind == "math":
        return answer if r"\boxed" in answer else rf"\boxed{{{answer}}}"
    return f"<answer> {answer} </answer>"


def _look(
    config: SpecialistConfig,
    student: Student,
    loaded: Sequence[DomainData],
    when: When,
    on_score: Callable[[When, Evaluation], None],
    on_phase: Callable[[str], None],
) -> None:
    look = config.look
    params = SamplingParams(look.max_response_tokens, look.temperature, look.top_p, look.samples)
    for domain, data in zip(config.domains, loaded, strict=True) if look.questions else ():
        on_phase(f"Asking {domain.name}'s validation questions, {when}")
        questions = list(data.validation)
        if len(questions) > look.questions:
            questions = derived_random(config.sft.seed, "look", domain.name).sample(questions, look.questions)
        policy = Policy(student, batch_size=look.batch_size)
        score = evaluate(
            policy, questions, make_verifier(domain.verifier), params,
            student="specialist", round=0, split="validation", seed=config.sft.seed,
        )  # fmt: skip
        on_score(when, score)
