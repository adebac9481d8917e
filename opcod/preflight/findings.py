"""What a pre-flight found, and what to try about it. Free of torch: the studio shows it, a worker makes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from opcod.types import BreakRescue, Evaluation, FeedbackOutcome, GateDecision

Turn = Literal["rescued", "broken", "still wrong", "still right", "dropped", "untutored"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreflightSize(_Model):
    """How much is sampled. The defaults take a few minutes where a step of the run takes one."""

    questions: int = Field(8, description="Training questions that each student answers and is tutored on.", ge=1, le=256)
    rollouts: int = Field(4, description="Answers sampled to each; at most as many as the run samples.", ge=2, le=64)
    validation_questions: int = Field(16, description="Validation questions a domain.", ge=1, le=1024)
    samples: int = Field(4, description="Answers sampled to each of these; at most as many as the run samples.", ge=1, le=64)


class Example(_Model):
    """One rollout of the pre-flight, and what became of it."""

    turn: Turn = Field(description="What the feedback did to the answer, or that it was dropped, or that nobody was asked.")
    domain: str = Field(description="The question's.")
    question: str = Field(description="What was asked.")
    answer: str = Field(description="The reference answer.")
    rollout: str = Field(description="What the tutee answered.")
    correct: bool = Field(description="Whether that is right.")
    feedback: str | None = Field(description="What the tutor said, as sampled; null where nobody was asked.")
    outcome: FeedbackOutcome | None = Field(description="What became of the feedback.")
    concept: str | None = Field(description="The term that it names.")
    again: str | None = Field(description="What the tutee answered with the feedback in view; null where it was not shown any.")
    correct_again: bool | None = Field(description="Whether that is right.")


class SelfTeacherGap(_Model):
    """How much more the self-teacher knows than the student, by what it is shown: what there is to distil.

    It has been reported to predict what on-policy self-distillation gains (arXiv 2605.30070); an indication, no promise.
    """

    taught: float = Field(description="Rollouts that have a solution or kept feedback to show, as a fraction: what enters the loss.")
    student: float = Field(description="Accuracy of these rollouts.")
    teacher: float = Field(description="Accuracy of the same student when it answers again with all that its self-teacher is shown.")
    divergence: float = Field(description="Mean of Eq. 1's divergence over the rollouts' tokens, nats a token.")
    responses: int = Field(description="Rollouts behind these figures.")

    @property
    def gap(self) -> float:
        return self.teacher - self.student


class StudentFindings(_Model):
    """One student as the tutee."""

    tutee: str = Field(description="Who answered.")
    tutor: str | None = Field(description="Who was asked about it; null for a baseline, which has no tutors.")
    gate_open: bool = Field(description="Whether this tutor's gate would be open in round 1. It was asked all the same.")
    questions: int = Field(description="Training questions that were answered.")
    rollouts: int = Field(description="Answers sampled in all.")
    accuracy: float = Field(description="Share of right ones.")
    mixed: float = Field(description="Share of questions with right and wrong answers: those that one can learn from by oneself.")
    truncated: float = Field(description="Share of answers that the length limit cut.")
    answered: float = Field(description="Share of answers in which the verifier found an answer at all.")
    prompt_tokens: float = Field(description="Mean length of a question's prompt.")
    response_tokens: float = Field(description="Mean length of an answer.")
    feedback_tokens: float | None = Field(description="Mean length of a feedback.")
    outcomes: dict[FeedbackOutcome, int] = Field(description="Feedbacks by outcome.")
    break_rescue: list[BreakRescue] = Field(description="How kept feedback changed answers, over all and by difficulty.")
    self_teacher: SelfTeacherGap | None = Field(description="Null for GRPO, or where there was nothing to show.")
    examples: list[Example] = Field(description="A few of each turn.")

    @property
    def kept(self) -> float | None:
        """Share of the feedback that is kept."""
        total = sum(self.outcomes.values())
        return self.outcomes.get("kept", 0) / total if total else None

    @property
    def breaks(self) -> BreakRescue | None:
        """Over all difficulties."""
        return next((one for one in self.break_rescue if one.difficulty is None), None)


class Finding(_Model):
    """Something that speaks against launching as it is, or that is worth knowing."""

    weight: Literal["stop", "mind", "good"] = Field(
        description="`stop`: hours would be wasted. `mind`: worth a thought. `good`: as it should be."
    )
    about: str = Field(description="A student, or empty for the run.")
    message: str = Field(description="What was seen.")
    advice: str = Field(description="What to try; empty where there is nothing to do.")


class Preflight(_Model):
    """All that was found."""

    size: PreflightSize = Field(description="How much was sampled.")
    evaluations: list[Evaluation] = Field(description="avg@k of each student on each domain's validation questions, with intervals.")
    decisions: list[GateDecision] = Field(description="Gaps, and which gates would open in round 1.")
    students: list[StudentFindings] = Field(description="Each as the tutee.")
    findings: list[Finding] = Field(description="What it means, the worst first.")
    notes: list[str] = Field(description="What was dropped or assumed while the data was read.")
    seconds: float = Field(description="How long it took, the loading of the students included.")


FEW_KEPT = 0.4
MOST_CUT = 0.2
FEW_ANSWERED = 0.5
_ORDER = {"stop": 0, "mind": 1, "good": 2}


def judge(decisions: Sequence[GateDecision], students: Sequence[StudentFindings], *, tutored: bool) -> list[Finding]:
    """What the figures mean for a launch, the worst first."""
    found = [*_of_gates(decisions, tutored), *(one for student in students for one in _of_student(student))]
    return sorted(found, key=lambda one: _ORDER[one.weight])


def _of_gates(decisions: Sequence[GateDecision], tutored: bool) -> Iterator[Finding]:
    if not tutored:
        return
    opened = [one.tutor for one in decisions if one.domains]
    if not opened:
        gaps = ", ".join(f"{one.tutor} {one.gap:.2f}" for one in decisions)
        yield Finding(
            weight="mind",
            about="",
            message=f"Every gate would be shut in round 1 (gaps: {gaps}): the first round would be plain self-distillation.",
            advice="Raise method.gate.threshold, choose domain_selective, or bring specialists that are closer to each other.",
        )
    else:
        yield Finding(weight="good", about="", message=f"The gate would be open for {' and '.join(opened)} in round 1.", advice="")


def _of_student(one: StudentFindings) -> Iterator[Finding]:
    def say(weight: Literal["stop", "mind", "good"], message: str, advice: str = "") -> Finding:
        return Finding(weight=weight, about=one.tutee, message=message, advice=advice)

    if one.answered < FEW_ANSWERED:
        yield say(
            "stop",
            f"Only {one.answered:.0%} of its answers hold an answer that the verifier finds.",
            "Look at the examples: teach the format first (SFT), or ask for it in the system prompt.",
        )
    elif one.truncated > MOST_CUT:
        yield say("mind", f"The length limit cuts {one.truncated:.0%} of its answers.", "Raise generation.max_response_tokens.")
    if one.accuracy == 0:
        yield say(
            "stop",
            "None of its answers is right: there is no solution of its own to learn from.",
            "Start from a stronger student or easier questions.",
        )
    elif one.accuracy == 1:
        yield say(
            "mind", "All of its answers are right: there is little left to learn on these questions.", "Bring harder training questions."
        )
    if one.kept is not None and one.kept < FEW_KEPT:
        most = max((name for name in one.outcomes if name != "kept"), key=lambda name: one.outcomes[name])
        yield say(
            "mind" if one.kept else "stop",
            f"Only {one.kept:.0%} of {one.tutor}'s feedback is kept; most of the rest ends as {most.replace('_', ' ')}.",
            "Look at the examples; reword method.feedback.templates.anchored for this tutor, or teach it the format.",
        )
    breaks = one.breaks
    if breaks is not None and breaks.broken > breaks.rescued and breaks.broken >= 3:
        yield say(
            "mind",
            f"{one.tutor}'s feedback breaks more answers than it rescues: {breaks.broken} of {breaks.correct_before} right ones, "
            f"against {breaks.rescued} of {breaks.wrong_before} wrong ones.",
            "Lower method.gate.threshold so that only closer peers tutor, or compare with the SDPO baseline.",
        )
    elif breaks is not None and breaks.rescued > breaks.broken:
        yield say(
            "good",
            f"{one.tutor}'s feedback rescues {breaks.rescued} of {breaks.wrong_before} wrong answers "
            f"and breaks {breaks.broken} of {breaks.correct_before} right ones.",
        )
    teacher = one.self_teacher
    if teacher is not None and teacher.gap <= 0:
        yield say(
            "mind",
            f"Its self-teacher is no better than itself: {teacher.teacher:.0%} against {teacher.student:.0%}.",
            "There is little to distil; look at what it is shown, or bring other data.",
        )
    elif teacher is not None:
        yield say("good", f"Its self-teacher answers {teacher.teacher:.0%} right where it answered {teacher.student:.0%}.")
