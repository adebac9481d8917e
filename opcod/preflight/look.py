"""The pre-flight itself: load the students, validate, sample, ask, and look. No weight changes.

It goes the way of a round's first step (Algorithm 1), smaller, with two differences: a tutor is asked even if its gate would be
shut, so that one sees what the gate keeps out; and the self-teacher, which in a run only scores, answers too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from statistics import fmean
from typing import Any, cast

import torch

from opcod.config import ExperimentConfig, GateConfig, LossConfig
from opcod.distillation.loss import score_distillation
from opcod.distillation.micro_batches import micro_batches
from opcod.distillation.readout import response_readout
from opcod.distillation.self_teacher import fitted_teacher_messages, shown_feedback
from opcod.errors import ModelError
from opcod.evaluation.accuracy import evaluate, evaluation_params
from opcod.evaluation.break_rate import FeedbackCase, count_breaks
from opcod.events import StopSignal
from opcod.feedback.gating import decide
from opcod.feedback.prompts import check_templates
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy
from opcod.generation.tutoring import Tutor
from opcod.preflight.findings import Example, Preflight, PreflightSize, SelfTeacherGap, StudentFindings, Turn, judge
from opcod.students.loading import DTYPES, Student, load_student, resolve_device
from opcod.students.references import check_top_k
from opcod.tasks.questions import DomainData, load_domains
from opcod.tasks.verifiers import Verifier, make_verifier
from opcod.training.hosts import available_cores
from opcod.training.sampler import balanced_subset
from opcod.training.samples import Sample
from opcod.training.step import Tutee, Tutoring, ask_tutors, roll_out, show_context
from opcod.types import Evaluation, FeedbackOutcome, Scores

EXAMPLES = 2
"""Of each turn and student."""
CHARACTERS = 4000
"""Of a text in an example."""
_NOBODY_LEARNS: Any = None

Tell = Callable[[float, str], None]
"""(fraction done, what is under way)."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """Somebody asked for an end."""


@dataclass(frozen=True, slots=True)
class _Crew:
    config: ExperimentConfig
    domains: tuple[DomainData, ...]
    verifiers: Mapping[str, Verifier]
    students: Mapping[str, Student]
    policies: Mapping[str, Policy]


def preflight(
    config: ExperimentConfig,
    size: PreflightSize | None = None,
    *,
    tell: Tell = lambda _fraction, _what: None,
    stop: StopSignal | None = None,
) -> Preflight:
    """Look at an experiment before it is launched.

    Raises:
        UserError: settings, data, students or resources are at fault, as they would be for a run.
        Stopped: `stop` was requested; there is no result.
    """
    size = size or PreflightSize()
    began = time.perf_counter()
    names = [student.name for student in config.students]
    beats = _beats(2 * len(names) + len(names), tell, stop)
    check_templates(config.method)
    domains = load_domains(config.domains)
    torch.set_num_threads(config.compute.threads or available_cores())
    students = {}
    for place, name in enumerate(names):
        next(beats)(f"Loading {name}")
        students[name] = _load(config, place)
        check_top_k(config, name, int(students[name].model.config.get_text_config().vocab_size))
    policies = {name: Policy(student, batch_size=config.generation.batch_size) for name, student in students.items()}
    crew = _Crew(_smaller(config, size), domains, {one.name: make_verifier(one.verifier) for one in config.domains}, students, policies)
    evaluations = []
    for name in names:
        next(beats)(f"Validating {name}")
        evaluations += _validate(crew, name, size)
    scores: dict[str, Scores] = {name: {one.domain: one.score for one in evaluations if one.student == name} for name in names}
    algorithm = config.method.algorithm
    decisions = decide(config.method.gate, scores, round=1, algorithm=algorithm)
    asked = decide(GateConfig(strategy="always"), scores, round=1, algorithm=algorithm)
    found = []
    for name in names:
        next(beats)(f"Sampling answers and feedback for {name}")
        tutoring = Tutoring(asked, scores, {one.tutor: _tutor(crew, one.tutor) for one in asked if one.domains and one.tutor != name})
        found.append(_look(crew, name, tutoring, {one.tutor for one in decisions if one.domains}))
    tell(1.0, "Done")
    return Preflight(
        size=size,
        evaluations=evaluations,
        decisions=list(decisions),
        students=found,
        findings=judge(decisions, found, tutored=algorithm == "opcod" and config.method.gate.strategy != "never"),
        notes=[note for domain in domains for note in domain.notes],
        seconds=time.perf_counter() - began,
    )


def _beats(count: int, tell: Tell, stop: StopSignal | None) -> Iterator[Callable[[str], None]]:
    for place in range(count):
        if stop is not None and stop.requested():
            raise Stopped
        yield lambda what, place=place: tell(place / count, what)  # type: ignore[misc]


def _smaller(config: ExperimentConfig, size: PreflightSize) -> ExperimentConfig:
    """The run's settings, at the pre-flight's size. A run of fewer rollouts or samples is not made larger."""
    generation = config.generation.model_copy(update={"rollouts": min(size.rollouts, config.generation.rollouts)})
    schedule = config.schedule.model_copy(update={"questions_per_step": size.questions})
    evaluation = config.evaluation.model_copy(update={"samples": min(size.samples, config.evaluation.samples)})
    return config.model_copy(update={"generation": generation, "schedule": schedule, "evaluation": evaluation})


def _load(config: ExperimentConfig, place: int) -> Student:
    compute = config.compute
    try:
        return load_student(config.students[place].model, device=resolve_device(compute.device), dtype=DTYPES[compute.dtype])
    except ModelError as error:
        error.field = f"students.{place}.model"
        raise


def _tutor(crew: _Crew, name: str) -> Tutor:
    native = next(student.native_domain for student in crew.config.students if student.name == name)
    return Tutor(name, crew.policies[name], native)


def _validate(crew: _Crew, name: str, size: PreflightSize) -> list[Evaluation]:
    params = evaluation_params(crew.config.evaluation, crew.config.generation)
    return [
        evaluate(
            crew.policies[name],
            balanced_subset(domain.validation, size.validation_questions, seed=crew.config.seed),
            crew.verifiers[domain.name],
            params,
            student=name,
            round=0,
            split="validation",
            seed=crew.config.seed,
        )
        for domain in crew.domains
    ]


def _look(crew: _Crew, name: str, tutoring: Tutoring, opened: set[str]) -> StudentFindings:
    config = crew.config
    training = [question for domain in crew.domains for question in domain.train]
    tutee = Tutee(name, config, crew.policies[name], _NOBODY_LEARNS, training, crew.verifiers)
    groups = roll_out(tutee, step=1)
    samples = [sample for group in groups for sample in group]
    ask_tutors(tutee, tutoring, samples, step=1)
    grpo = config.method.algorithm == "grpo"
    if not grpo:
        show_context(tutee, groups)
    tutor = next((name for name, _ in Counter(sample.tutor for sample in samples if sample.tutor).most_common(1)), None)
    after = _answers_after_feedback(tutee, samples)
    wrong = [sum(not sample.rollout.correct for sample in group) for group in groups]
    cases = [
        FeedbackCase(sample.question, sample.rollout.correct, sample.feedback, wrong[sample.group])
        for sample in samples
        if id(sample) in after and sample.feedback is not None
    ]
    marks = [correct for _, correct in after.values()]
    said = [sample.feedback for sample in samples if sample.feedback is not None]
    lengths = [one.tokens for one in said if one.tokens is not None]
    return StudentFindings(
        tutee=name,
        tutor=tutor,
        gate_open=tutor in opened,
        questions=len(groups),
        rollouts=len(samples),
        accuracy=fmean(sample.rollout.correct for sample in samples),
        mixed=fmean(0 < count < len(group) for count, group in zip(wrong, groups, strict=True)),
        truncated=fmean(sample.rollout.truncated for sample in samples),
        answered=fmean(sample.rollout.extracted is not None for sample in samples),
        prompt_tokens=fmean(len(sample.prompt) for sample in samples),
        response_tokens=fmean(sample.rollout.tokens for sample in samples),
        feedback_tokens=fmean(lengths) if lengths else None,
        outcomes=cast(dict[FeedbackOutcome, int], dict(Counter(one.outcome for one in said))),
        break_rescue=count_breaks(cases, marks, rollouts=config.generation.rollouts, round=1, tutee=name, tutor=tutor) if tutor else [],
        self_teacher=None if grpo else _self_teacher(crew, tutee, samples),
        examples=_examples(samples, after),
    )


def _answers_after_feedback(tutee: Tutee, samples: Sequence[Sample]) -> dict[int, tuple[str, bool]]:
    """Id of a sample with kept feedback -> what the tutee answers with it in view (method section 8), and whether that is right."""
    shown = [sample for sample in samples if shown_feedback(sample.feedback) is not None]
    prompts = [
        tutee.policy.prompt(
            fitted_teacher_messages(
                tutee.config.method.teacher.template,
                sample.question,
                solution=None,
                feedback=shown_feedback(sample.feedback),
                max_tokens=tutee.config.method.teacher.max_tokens,
                count_tokens=lambda messages: len(tutee.policy.prompt(messages)),
            )
        )
        for sample in shown
    ]
    texts = _answers(tutee, prompts, "preflight feedback")
    return {
        id(sample): (text, tutee.verifiers[sample.question.domain](text, sample.question.answer).correct)
        for sample, text in zip(shown, texts, strict=True)
    }


def _answers(tutee: Tutee, prompts: Sequence[Sequence[int]], purpose: str) -> list[str]:
    generation = tutee.config.generation
    params = SamplingParams(generation.max_response_tokens, generation.temperature, generation.top_p)
    return [one.text for (one,) in tutee.policy.respond(prompts, params, seed=tutee.seed(purpose, 1))]


def _self_teacher(crew: _Crew, tutee: Tutee, samples: Sequence[Sample]) -> SelfTeacherGap | None:
    taught = [sample for sample in samples if sample.teacher_prompt is not None]
    if not taught:
        return None
    texts = _answers(tutee, [sample.teacher_prompt or () for sample in taught], "preflight self-teacher")
    right = [crew.verifiers[one.question.domain](text, one.question.answer).correct for one, text in zip(taught, texts, strict=True)]
    return SelfTeacherGap(
        taught=len(taught) / len(samples),
        student=fmean(sample.rollout.correct for sample in taught),
        teacher=fmean(right),
        divergence=_divergence(crew.students[tutee.name], taught, tutee.config.method.loss, tutee.config),
        responses=len(taught),
    )


@torch.no_grad()
def _divergence(student: Student, taught: Sequence[Sample], loss: LossConfig, config: ExperimentConfig) -> float:
    """Mean of Eq. 1's divergence over all response tokens; before training the self-teacher has the student's own weights."""
    pad_id = student.tokenizer.pad_token_id
    responses = [sample.response.generation.token_ids for sample in taught]
    passes = [[sample.prompt for sample in taught], [sample.teacher_prompt or [] for sample in taught]]
    total = 0.0
    for rows in micro_batches(student.model, passes, responses, max_tokens=config.compute.known_micro_batch_tokens):
        chosen = [responses[row] for row in rows]
        plain, informed = (
            response_readout(student.model, [prompts[row] for row in rows], chosen, pad_id=pad_id if isinstance(pad_id, int) else 0)
            for prompts in passes
        )
        scores = score_distillation(
            plain,
            informed,
            torch.tensor([*chain.from_iterable(chosen)], device=student.model.device),
            temperature=config.generation.temperature,
            alpha=loss.alpha,
            top_k=loss.top_k,
            tail_bucket=loss.tail_bucket,
        )
        total += float(scores.divergence.sum())
    return total / sum(len(one) for one in responses)


def _examples(samples: Sequence[Sample], after: Mapping[int, tuple[str, bool]]) -> list[Example]:
    """The first few of each turn, what feedback changed before the rest."""
    order: tuple[Turn, ...] = ("rescued", "broken", "still wrong", "still right", "dropped", "untutored")
    turns = {id(sample): _turn(sample, after.get(id(sample))) for sample in samples}
    return [
        _example(sample, turn, after.get(id(sample)))
        for turn in order
        for sample in islice((one for one in samples if turns[id(one)] == turn), EXAMPLES)
    ]


def _turn(sample: Sample, after: tuple[str, bool] | None) -> Turn:
    if sample.feedback is None:
        return "untutored"
    if after is None:
        return "dropped"
    if sample.rollout.correct:
        return "still right" if after[1] else "broken"
    return "rescued" if after[1] else "still wrong"


def _example(sample: Sample, turn: Turn, after: tuple[str, bool] | None) -> Example:
    feedback = sample.feedback
    return Example(
        turn=turn,
        domain=sample.question.domain,
        question=sample.question.prompt[:CHARACTERS],
        answer=sample.question.answer[:CHARACTERS],
        rollout=sample.rollout.text[:CHARACTERS],
        correct=sample.rollout.correct,
        feedback=feedback.raw[:CHARACTERS] if feedback else None,
        outcome=feedback.outcome if feedback else None,
        concept=feedback.concept if feedback else None,
        again=after[0][:CHARACTERS] if after else None,
        correct_again=after[1] if after else None,
    )
