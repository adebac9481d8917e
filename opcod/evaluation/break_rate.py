"""Does feedback break right answers, does it rescue wrong ones? (method section 8)

The tutee answers once more with a rollout's kept feedback in context; the answer before and after are
compared. Dropped feedback never reaches a student, so its rollouts do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opcod.config import ExperimentConfig
from opcod.distillation.self_teacher import fitted_teacher_messages, shown_feedback
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy, verified
from opcod.generation.tutoring import Tutor, ask_feedback
from opcod.seeds import derive_seed
from opcod.tasks.verifiers import Verifier
from opcod.types import BreakRescue, Feedback, Question, Rollout


@dataclass(frozen=True, slots=True)
class FeedbackCase:
    """One rollout before feedback: its question, whether it was right, what the tutor said, and how many of the
    question's rollouts were wrong.
    """

    question: Question
    correct: bool
    feedback: Feedback
    wrong_siblings: int


def difficulties(rollouts: int) -> list[tuple[int, int] | None]:
    """All, then the paper's ranges of wrong rollouts of n (0-1, 0-4, 5-7, 7 for n = 8), scaled to other n."""
    easy, half, most = max(1, round(rollouts / 8)), rollouts // 2, rollouts - 1
    ranges = [(0, easy), (0, half), (half + 1, most), (most, most)]
    return [None, *(pair for pair in dict.fromkeys(ranges) if pair[0] <= pair[1])]


def answers_with_feedback(
    tutee: Policy, cases: Sequence[FeedbackCase], verifiers: Mapping[str, Verifier], config: ExperimentConfig, *, seed: int
) -> list[Rollout]:
    """What the tutee answers with each case's feedback in context, at the rollout sampler; `index` is the case's place."""
    teacher = config.method.teacher
    prompts = [
        tutee.prompt(
            fitted_teacher_messages(
                teacher.template,
                case.question,
                solution=None,
                feedback=shown_feedback(case.feedback),
                max_tokens=teacher.max_tokens,
                count_tokens=lambda messages: len(tutee.prompt(messages)),
            )
        )
        for case in cases
    ]
    generation = config.generation
    answers = tutee.respond(prompts, SamplingParams(generation.max_response_tokens, generation.temperature, generation.top_p), seed=seed)
    return [
        verified(verifiers[case.question.domain], case.question, place, answer)
        for place, (case, (answer,)) in enumerate(zip(cases, answers, strict=True))
    ]


def count_breaks(
    cases: Sequence[FeedbackCase], after: Sequence[bool], *, rollouts: int, round: int, tutee: str, tutor: str
) -> list[BreakRescue]:
    """Rates over all cases and by difficulty."""

    def over(difficulty: tuple[int, int] | None) -> BreakRescue:
        chosen = [
            (case.correct, right)
            for case, right in zip(cases, after, strict=True)
            if difficulty is None or difficulty[0] <= case.wrong_siblings <= difficulty[1]
        ]
        return BreakRescue(
            round=round,
            tutee=tutee,
            tutor=tutor,
            difficulty=difficulty,
            correct_before=sum(before for before, _ in chosen),
            broken=sum(before and not right for before, right in chosen),
            wrong_before=sum(not before for before, _ in chosen),
            rescued=sum(right and not before for before, right in chosen),
        )

    return [over(difficulty) for difficulty in difficulties(rollouts)]


def measure_break_rescue(
    tutee: Policy,
    tutor: Tutor,
    questions: Sequence[Question],
    verifiers: Mapping[str, Verifier],
    config: ExperimentConfig,
    *,
    tutee_name: str,
    tutee_domain: str | None,
    round: int = 0,
    seed: int = 0,
) -> list[BreakRescue]:
    """Break and rescue rates of two students on the given questions, from fresh rollouts.

    Samples `generation.rollouts` answers to each question, asks the tutor about each, and lets the tutee answer again.
    """
    generation = config.generation
    params = SamplingParams(generation.max_response_tokens, generation.temperature, generation.top_p, generation.rollouts)
    prompts = [tutee.question_prompt(question) for question in questions]
    groups = tutee.respond(prompts, params, seed=derive_seed(seed, "break", "rollouts"))
    marks = [[verifiers[q.domain](one.text, q.answer).correct for one in group] for q, group in zip(questions, groups, strict=True)]
    shown = [(question, one.text) for question, group in zip(questions, groups, strict=True) for one in group]
    feedback = ask_feedback(tutor, shown, config.method.feedback, tutee_domain=tutee_domain, seed=derive_seed(seed, "break", "feedback"))
    flat = [(question, right, group.count(False)) for question, group in zip(questions, marks, strict=True) for right in group]
    cases = [
        FeedbackCase(question, right, said, wrong)
        for (question, right, wrong), said in zip(flat, feedback, strict=True)
        if shown_feedback(said) is not None
    ]
    after = answers_with_feedback(tutee, cases, verifiers, config, seed=derive_seed(seed, "break", "answers"))
    right = [answer.correct for answer in after]
    return count_breaks(cases, right, rollouts=generation.rollouts, round=round, tutee=tutee_name, tutor=tutor.name)
