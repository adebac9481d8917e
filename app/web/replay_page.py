"""An exchange's replays: the form that asks for one, and what came of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlmodel import Session

from app import shapes
from app.records import replays
from app.records.exchange_queries import exchange_row
from app.records.replays import MOST_SAMPLES, Asked, WeightsChoice
from app.tables import FeedbackRow
from app.templating import bare

SHOWN = 20
"""Replays on the page; REST has all."""
LONGEST_ANSWER = 4_000
ARMS = {
    "question": ("Question alone", "The self-teacher is shown nothing but the question."),
    "recorded": ("As recorded", "With the solution and the feedback that it was shown then."),
    "edited": ("As edited", "With what this replay shows it."),
}


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One answer, bounded."""

    text: str
    cut: bool
    correct: bool
    extracted: str


@dataclass(frozen=True, slots=True)
class ArmView:
    """One prompt's answers; no accuracy while they are being sampled."""

    label: str
    meaning: str
    right: int
    accuracy: float | None
    low: float
    high: float
    answers: tuple[AnswerView, ...]


@dataclass(frozen=True, slots=True)
class ReplayView:
    """One replay."""

    id: int
    state: str
    active: bool
    owner: str
    at: datetime
    weights: str
    samples: int
    feedback: str | None
    own_solution: bool
    progress: float
    arms: tuple[ArmView, ...]
    verdict: str
    note: str
    error: str
    advice: str


@dataclass(frozen=True, slots=True)
class ReplayList:
    """Its `active`: something changes still, so the page asks again."""

    exchange_id: int
    replays: tuple[ReplayView, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class ReplayForm:
    """What the form starts with: the recorded context. `fault` is what was wrong with what was sent."""

    exchange_id: int
    feedback: str
    was_kept: bool
    had_feedback: bool
    has_solution: bool
    own_solution: bool
    weights: Sequence[WeightsChoice]
    chosen: str
    samples: str
    most_samples: int
    fault: str = ""


def replay_form(session: Session, exchange_id: int, sent: dict[str, str] | None = None, fault: str = "") -> ReplayForm:
    """The form, with what was sent where that was refused.

    Raises:
        NotFound
    """
    exchange = exchange_row(session, exchange_id)
    said = session.get(FeedbackRow, (exchange.run_id, exchange.seq))
    weights = replays.choices(session, exchange)
    sent = sent or {"feedback": bare(said.text) if said else "", "own_solution": "1", "weights": weights[0].value, "samples": "8"}
    return ReplayForm(
        exchange_id=exchange_id,
        feedback=sent.get("feedback", ""),
        was_kept=replays.kept_text(said) is not None,
        had_feedback=said is not None,
        has_solution=exchange.own_solution is not None,
        own_solution=sent.get("own_solution") == "1",
        weights=weights,
        chosen=sent.get("weights", ""),
        samples=sent.get("samples", ""),
        most_samples=MOST_SAMPLES,
        fault=fault,
    )


def read_form(sent: dict[str, str], start: ReplayForm) -> tuple[Asked | None, str]:
    """What the form asks for, or what is wrong with it. Feedback that was left as the form started with it is the recorded one."""
    feedback = sent.get("feedback", "").replace("\r\n", "\n")
    as_recorded = start.was_kept and feedback == start.feedback.replace("\r\n", "\n")
    try:
        return (
            Asked.model_validate(
                {
                    "feedback": None if as_recorded else feedback,
                    "own_solution": sent.get("own_solution") == "1",
                    "weights": sent.get("weights") or None,
                    "samples": sent.get("samples", ""),
                }
            ),
            "",
        )
    except ValidationError as error:
        first = error.errors()[0]
        return None, f"{str(first['loc'][0]).replace('_', ' ').capitalize()}: {first['msg'][0].lower()}{first['msg'][1:]}."


def replay_list(session: Session, exchange_id: int) -> ReplayList:
    """The exchange's replays, the newest first.

    Raises:
        NotFound
    """
    labels = {choice.value: choice.label for choice in replays.choices(session, exchange_row(session, exchange_id))}
    found = replays.of_exchange(session, exchange_id, limit=SHOWN).items
    views = tuple(_view(one, labels.get(one.asked.weights or "", "weights that are gone")) for one in found)
    return ReplayList(exchange_id, views, any(view.active for view in views))


def _view(one: shapes.Replay, weights: str) -> ReplayView:
    active = one.state in ("queued", "running")
    arms: dict[str, shapes.ReplayArm] = {arm.name: arm for arm in one.arms}
    planned = [name for name in ARMS if name in (one.planned if active else arms)]
    return ReplayView(
        id=one.id,
        state=one.state,
        active=active,
        owner=one.owner,
        at=one.created_at,
        weights=weights,
        samples=one.asked.samples,
        feedback=one.asked.feedback,
        own_solution=one.asked.own_solution,
        progress=one.progress,
        arms=tuple(_arm(name, arms.get(name)) for name in planned),
        verdict=_verdict(arms),
        note=one.note,
        error=one.error.message if one.error else "",
        advice=one.error.advice if one.error else "",
    )


def _arm(name: str, arm: shapes.ReplayArm | None) -> ArmView:
    label, meaning = ARMS[name]
    if arm is None:
        return ArmView(label, meaning, 0, None, 0.0, 0.0, ())
    answers = tuple(
        AnswerView(one.text[:LONGEST_ANSWER], len(one.text) > LONGEST_ANSWER, one.correct, (one.extracted or "")[:200])
        for one in arm.answers
    )
    return ArmView(label, meaning, sum(one.correct for one in answers), arm.accuracy, arm.low, arm.high, answers)


def _verdict(arms: dict[str, shapes.ReplayArm]) -> str:
    """What came of it, in words; "" as long as there is nothing to compare."""
    after, before = arms.get("edited"), arms.get("recorded") or arms.get("question")
    what = "the edited context"
    if after is None:
        after, before, what = arms.get("recorded"), arms.get("question"), "the recorded context"
    if after is None or before is None or after is before:
        return ""
    points = round(100 * (after.accuracy - before.accuracy))
    if points == 0:
        return f"No difference: with {what} it is right as often."
    sure = "" if after.low > before.high or after.high < before.low else " The intervals overlap: it may be chance; ask for more answers."
    return f"With {what} it is right {'more' if points > 0 else 'less'} often: {points:+d} points.".replace("-", "−") + sure
