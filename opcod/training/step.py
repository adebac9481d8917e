"""One self-distillation step (the body of Algorithm 1): sample, verify, ask the tutors, distil.

Left out on purpose: the paper's separate engine process for tutors. A tutor here is a frozen copy in
the tutee's process, asked in one batch a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch

from opcod.config import ExperimentConfig
from opcod.distillation.grpo import group_advantages
from opcod.distillation.self_teacher import fitted_teacher_messages, own_solutions, shown_feedback
from opcod.evaluation.break_rate import FeedbackCase, answers_with_feedback, count_breaks
from opcod.feedback.gating import choose_tutor
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy, verified
from opcod.generation.tutoring import Tutor, ask_feedback
from opcod.seeds import derive_seed
from opcod.stopwatch import measured, part
from opcod.tasks.verifiers import Verifier
from opcod.training.sampler import batch_questions
from opcod.training.samples import Sample, token_lens
from opcod.training.step_metrics import StepFacts, step_metrics
from opcod.training.team import ALONE, Team
from opcod.training.update import Learner, ScoredResponse, UpdateReport, distill, reinforce, sampled_log_probs
from opcod.types import BreakRescue, Exchange, GateDecision, Question, Rollout, Scores


@dataclass(frozen=True, slots=True)
class Tutoring:
    """Who may tutor in this round: the gate's decisions, the validation scores behind them, and the frozen peers."""

    decisions: tuple[GateDecision, ...] = ()
    scores: Mapping[str, Scores] = field(default_factory=dict)
    tutors: Mapping[str, Tutor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tutee:
    """The student whose phase it is, with all that its steps need."""

    name: str
    config: ExperimentConfig
    policy: Policy
    learner: Learner
    questions: Sequence[Question]
    verifiers: Mapping[str, Verifier]
    team: Team = ALONE

    @property
    def native_domain(self) -> str | None:
        return next(student.native_domain for student in self.config.students if student.name == self.name)

    def seed(self, purpose: str, step: int) -> int:
        return derive_seed(self.config.seed, purpose, self.name, step)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a step leaves: every exchange, the metrics, and break and rescue counts where they were sampled."""

    step: int
    exchanges: tuple[Exchange, ...]
    metrics: dict[str, float]
    break_rescue: tuple[BreakRescue, ...]


def run_step(tutee: Tutee, tutoring: Tutoring, *, round: int, step: int, measure_breaks: bool) -> StepRecord:
    """Step `step` (from 1 over the run) of the tutee.

    Raises:
        NumericsError: a loss or gradient is not finite.
        ResourceError: memory ran out.
    """
    torch.manual_seed(tutee.seed("dropout", step) + tutee.team.rank)
    with measured("step") as measure:
        with part("rollout"):
            groups = roll_out(tutee, step)
        samples = [sample for group in groups for sample in group]
        with part("feedback"):
            ask_tutors(tutee, tutoring, samples, step)
        with part("break_rescue"):
            breaks = sample_breaks(tutee, samples, round=round, step=step) if measure_breaks else ()
        with part("update"):
            reports = _update(tutee, groups)
        timings = {name: done.seconds for name, done in measure.parts.items()}
        facts = StepFacts(reports=reports, learning_rate=tutee.learner.optimizer.learning_rate, timings=timings)
        with part("record"):
            exchanges = tuple(_exchange(tutee, sample, round, step) for sample in samples)
        return StepRecord(step=step, exchanges=exchanges, metrics=step_metrics(tutee.name, groups, facts), break_rescue=breaks)


def _update(tutee: Tutee, groups: Sequence[Sequence[Sample]]) -> list[UpdateReport]:
    if tutee.config.method.algorithm == "grpo":
        return reinforce_groups(tutee, groups)
    with part("self_teacher_prompts"):
        show_context(tutee, groups)
    return distill_groups(tutee, groups)


def roll_out(tutee: Tutee, step: int) -> list[list[Sample]]:
    """N verified on-policy rollouts of each question of the step's batch."""
    config = tutee.config
    questions = batch_questions(tutee.questions, step=step, size=config.schedule.questions_per_step, seed=config.seed, student=tutee.name)
    generation = config.generation
    params = SamplingParams(generation.max_response_tokens, generation.temperature, generation.top_p, generation.rollouts)
    prompts = [tutee.policy.question_prompt(question) for question in questions]
    answers = tutee.policy.respond(prompts, params, seed=tutee.seed("rollout", step))

    def verify(groups: Sequence[int]) -> list[list[Rollout]]:
        return [
            [
                verified(tutee.verifiers[questions[group].domain], questions[group], index, response)
                for index, response in enumerate(answers[group])
            ]
            for group in groups
        ]

    with part("verify"):  # a verifier may run out of time: each response is judged once, not by every process for itself
        rollouts = tutee.team.spread([sum(len(one.text) for one in group) for group in answers], verify)
    return [
        [Sample(question, group, prompt, response, rollout) for response, rollout in zip(responses, judged, strict=True)]
        for group, (question, prompt, responses, judged) in enumerate(zip(questions, prompts, answers, rollouts, strict=True))
    ]


def ask_tutors(tutee: Tutee, tutoring: Tutoring, samples: Sequence[Sample], step: int) -> None:
    """Ask, for every rollout, the peer that may tutor on its domain."""
    for sample in samples:
        sample.tutor = choose_tutor(tutoring.decisions, tutoring.scores, tutee.name, sample.question.domain)
    for name, tutor in tutoring.tutors.items():
        asked = [sample for sample in samples if sample.tutor == name]
        said = ask_feedback(
            tutor,
            [(sample.question, sample.response.text) for sample in asked],
            tutee.config.method.feedback,
            tutee_domain=tutee.native_domain,
            seed=tutee.seed(f"feedback of {name}", step),
        )
        for sample, feedback in zip(asked, said, strict=True):
            sample.feedback = feedback


def sample_breaks(tutee: Tutee, samples: Sequence[Sample], *, round: int, step: int) -> tuple[BreakRescue, ...]:
    """Break and rescue counts, by tutor, on this step's first questions."""
    config = tutee.config
    limit = config.evaluation.break_rescue_questions
    found: list[BreakRescue] = []
    for tutor in sorted({sample.tutor for sample in samples if sample.tutor}):
        asked = [sample for sample in samples if sample.group < limit and sample.tutor == tutor and shown_feedback(sample.feedback)]
        wrong = {sample.group: 0 for sample in samples}
        for sample in samples:
            wrong[sample.group] += not sample.rollout.correct
        cases = [FeedbackCase(s.question, s.rollout.correct, s.feedback, wrong[s.group]) for s in asked if s.feedback]
        answers = answers_with_feedback(tutee.policy, cases, tutee.verifiers, config, seed=tutee.seed(f"break by {tutor}", step))
        for sample, answer in zip(asked, answers, strict=True):
            sample.again = answer
        after = [answer.correct for answer in answers]
        found += count_breaks(cases, after, rollouts=config.generation.rollouts, round=round, tutee=tutee.name, tutor=tutor)
    return tuple(found)


def show_context(tutee: Tutee, groups: Sequence[Sequence[Sample]]) -> None:
    """Give each rollout its self-teacher's prompt, if there is a solution or kept feedback to show (method section 4)."""
    teacher = tutee.config.method.teacher
    for group in groups:
        for sample, solution in zip(group, own_solutions([sample.rollout for sample in group]), strict=True):
            sample.own_solution = solution
            feedback = shown_feedback(sample.feedback)
            if solution is None and feedback is None:
                continue
            messages = fitted_teacher_messages(
                teacher.template,
                sample.question,
                solution=solution,
                feedback=feedback,
                max_tokens=teacher.max_tokens,
                count_tokens=lambda messages: len(tutee.policy.prompt(messages)),
            )
            sample.teacher_prompt = tutee.policy.prompt(messages)
            sample.teacher_text = tutee.policy.prompt_text(messages)


def distill_groups(tutee: Tutee, groups: Sequence[Sequence[Sample]]) -> list[UpdateReport]:
    """Self-distillation updates, one a mini-batch that has anything to learn from; none for an empty one."""
    reports = []
    for mini_batch in _mini_batches(tutee, groups):
        taught = [sample for sample in mini_batch if sample.teacher_prompt is not None]
        if not taught:
            continue
        seen = tutee.config.recording.token_alternatives
        batch = [
            _scored(sample, teacher_prompt=sample.teacher_prompt, alternatives=seen if _under_the_lens(tutee, sample) else None)
            for sample in taught
        ]
        report = distill(tutee.learner, batch, tutee.config.method.loss, temperature=tutee.config.generation.temperature)
        for row, (sample, tokens) in enumerate(zip(taught, report.tokens, strict=True)):
            sample.counted = True
            sample.loss, sample.weight, sample.view = tokens.loss, tokens.weight, report.views.get(row)
        reports.append(report)
    return reports


def reinforce_groups(tutee: Tutee, groups: Sequence[Sequence[Sample]]) -> list[UpdateReport]:
    """GRPO updates, one a mini-batch; a mini-batch whose groups are all right or all wrong has no gradient and is skipped."""
    advantages = {
        id(sample): advantage
        for group in groups
        for sample, advantage in zip(group, group_advantages([float(sample.rollout.correct) for sample in group]), strict=True)
    }
    for group in groups:
        for sample in group:
            sample.counted = advantages[id(sample)] != 0
    temperature = tutee.config.generation.temperature
    mini_batches = [
        [_scored(sample, advantage=advantages[id(sample)]) for sample in mini_batch] for mini_batch in _mini_batches(tutee, groups)
    ]
    mini_batches = [batch for batch in mini_batches if any(one.advantage for one in batch)]
    several = len(mini_batches) > 1
    old = [sampled_log_probs(tutee.learner, batch, temperature=temperature) if several else None for batch in mini_batches]
    return [
        reinforce(tutee.learner, batch, tutee.config.method.grpo, temperature=temperature, old_log_probs=before)
        for batch, before in zip(mini_batches, old, strict=True)
    ]


def _mini_batches(tutee: Tutee, groups: Sequence[Sequence[Sample]]) -> list[list[Sample]]:
    size = tutee.config.optimizer.mini_batch_questions or len(groups)
    return [[sample for group in groups[start : start + size] for sample in group] for start in range(0, len(groups), size)]


def _scored(
    sample: Sample, *, teacher_prompt: Sequence[int] | None = None, advantage: float = 0.0, alternatives: int | None = None
) -> ScoredResponse:
    generation = sample.response.generation
    return ScoredResponse(sample.prompt, generation.token_ids, generation.log_probs, teacher_prompt, advantage, alternatives)


def _under_the_lens(tutee: Tutee, sample: Sample) -> bool:
    """Whether the rollout is recorded token by token. The batch's order is random, so its first questions are a fair choice."""
    recorded = tutee.config.recording.token_questions
    return recorded is None or sample.group < recorded


def _exchange(tutee: Tutee, sample: Sample, round: int, step: int) -> Exchange:
    return Exchange(
        round=round,
        step=step,
        group=sample.group,
        tutee=tutee.name,
        tutor=sample.tutor if sample.feedback else None,
        question=sample.question,
        rollout=sample.rollout,
        own_solution=sample.own_solution,
        feedback=sample.feedback,
        teacher_prompt=sample.teacher_text,
        in_loss=sample.counted,
        divergence_mean=fmean(sample.loss) if sample.loss else None,
        divergence_max=max(sample.loss) if sample.loss else None,
        again=sample.again,
        lens=token_lens(tutee.policy.pieces, sample) if _under_the_lens(tutee, sample) else None,
    )
