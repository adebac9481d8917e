"""A pre-flight as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from opcod.preflight.findings import Preflight, StudentFindings

SIGNS = {"stop": "!!", "mind": "! ", "good": "ok"}


def lines(found: Preflight) -> Iterator[str]:
    """What it means first, then the figures."""
    for one in found.findings:
        about = f"{one.about}: " if one.about else ""
        yield f"{SIGNS[one.weight]} {about}{one.message}{f' {one.advice}' if one.advice else ''}"
    yield ""
    for evaluation in found.evaluations:
        yield (
            f"{evaluation.student} on {evaluation.domain}: {_percent(evaluation.score)} ({_percent(evaluation.low)} to "
            f"{_percent(evaluation.high)}), {evaluation.questions} x {evaluation.samples}; "
            f"always the most frequent answer: {_percent(evaluation.majority_baseline)}"
        )
    for decision in found.decisions:
        state = "open" if decision.domains else "shut"
        yield f"gate of {decision.tutor}: {state}, gap {decision.gap:.3f} against {decision.threshold:g}"
    for student in found.students:
        yield from _student(student)
    yield f"{found.seconds:.0f} s"


def _student(one: StudentFindings) -> Iterator[str]:
    right, mixed = _percent(one.accuracy), _percent(one.mixed)
    yield f"{one.tutee}: {right} of {one.rollouts} answers to {one.questions} questions right, {mixed} of questions mixed"
    if one.kept is not None:
        rest = ", ".join(f"{count} {name}" for name, count in sorted(one.outcomes.items()) if name != "kept")
        yield f"  {one.tutor}'s feedback: {_percent(one.kept)} kept{f' ({rest})' if rest else ''}"
    if (breaks := one.breaks) is not None:
        yield f"  broken {breaks.broken} of {breaks.correct_before}, rescued {breaks.rescued} of {breaks.wrong_before}"
    if (teacher := one.self_teacher) is not None:
        yield (
            f"  self-teacher: {_percent(teacher.teacher)} against {_percent(teacher.student)} on {teacher.responses} answers, "
            f"divergence {teacher.divergence:.4f} nats a token"
        )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
