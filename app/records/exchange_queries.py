"""Exchanges as REST and exports read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, or_
from sqlmodel import Session, col, select

from app import shapes
from app.errors import NotFound
from app.records import labels
from app.records.queries import next_cursor
from app.tables import ExchangeLabelRow, ExchangeRow, FeedbackRow

NO_FEEDBACK = "none"
"""The outcome to ask for to see exchanges without feedback."""


@dataclass(frozen=True, slots=True)
class ExchangeFilters:
    """Which exchanges; every filter narrows, None leaves out."""

    round: int | None = None
    step: int | None = None
    tutee: str | None = None
    tutor: str | None = None
    domain: str | None = None
    question: str | None = None
    correct: bool | None = None
    in_loss: bool | None = None
    outcomes: Sequence[str] = ()
    label: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """For a query of `ExchangeRow`."""
        wanted: Mapping[Any, Any] = {
            ExchangeRow.round: self.round,
            ExchangeRow.step: self.step,
            ExchangeRow.tutee: self.tutee,
            ExchangeRow.tutor: self.tutor,
            ExchangeRow.domain: self.domain,
            ExchangeRow.question_id: self.question,
            ExchangeRow.correct: self.correct,
            ExchangeRow.in_loss: self.in_loss,
        }
        found = [column == value for column, value in wanted.items() if value is not None]
        if self.outcomes:
            among = col(ExchangeRow.outcome).in_([outcome for outcome in self.outcomes if outcome != NO_FEEDBACK])
            found.append(or_(among, col(ExchangeRow.outcome).is_(None)) if NO_FEEDBACK in self.outcomes else among)
        if self.label is not None:
            labelled = (col(ExchangeLabelRow.exchange_id) == col(ExchangeRow.id), col(ExchangeLabelRow.label) == self.label)
            found.append(exists().where(*labelled))
        return found


def exchanges(
    session: Session,
    run_id: int,
    filters: ExchangeFilters = ExchangeFilters(),
    *,
    after: int | None = None,
    until: int | None = None,
    newest_first: bool = False,
    limit: int = 50,
) -> shapes.Listing[shapes.Exchange]:
    """Exchanges in order of arrival (or the other way round) up to id `until`, each with its feedback and labels."""
    rows = select(ExchangeRow).where(col(ExchangeRow.run_id) == run_id, *filters.conditions())
    rows = rows.order_by(col(ExchangeRow.id).desc() if newest_first else col(ExchangeRow.id))
    if after is not None:
        rows = rows.where(col(ExchangeRow.id) < after if newest_first else col(ExchangeRow.id) > after)
    if until is not None:
        rows = rows.where(col(ExchangeRow.id) <= until)
    found = session.exec(rows.limit(limit + 1)).all()
    return shapes.Listing(items=_shapes(session, run_id, found[:limit]), next_cursor=next_cursor(found, limit))


def exchange(session: Session, exchange_id: int) -> shapes.ExchangeDetail:
    """One exchange with the ids of its siblings.

    Raises:
        NotFound
    """
    row = session.get(ExchangeRow, exchange_id)
    if row is None:
        raise NotFound("exchange", exchange_id)
    siblings = session.exec(
        select(col(ExchangeRow.id))
        .where(
            col(ExchangeRow.run_id) == row.run_id,
            col(ExchangeRow.tutee) == row.tutee,
            col(ExchangeRow.step) == row.step,
            col(ExchangeRow.group) == row.group,
        )
        .order_by(col(ExchangeRow.rollout_index))
    ).all()
    found = _shapes(session, row.run_id, [row])[0]
    return shapes.ExchangeDetail(**dict(found), siblings=[sibling for sibling in siblings if sibling is not None])


def _shapes(session: Session, run_id: int, rows: Sequence[ExchangeRow]) -> list[shapes.Exchange]:
    said = session.exec(select(FeedbackRow).where(col(FeedbackRow.run_id) == run_id, col(FeedbackRow.seq).in_([row.seq for row in rows])))
    feedbacks = {feedback.seq: feedback for feedback in said.all()}
    labelled = labels.of_many(session, [row.id or 0 for row in rows])
    return [_shape(row, feedbacks.get(row.seq), labelled.get(row.id or 0, [])) for row in rows]


def _shape(row: ExchangeRow, feedback: FeedbackRow | None, words: list[str]) -> shapes.Exchange:
    assert row.id is not None
    rollout = shapes.RolloutShape(
        index=row.rollout_index,
        text=row.rollout_text,
        tokens=row.rollout_tokens,
        correct=row.correct,
        extracted=row.extracted,
        truncated=row.truncated,
    )
    divergence = None
    if row.divergence_mean is not None and row.divergence_max is not None:
        divergence = shapes.DivergenceShape(mean=row.divergence_mean, max=row.divergence_max)
    return shapes.Exchange(
        id=row.id,
        run_id=row.run_id,
        round=row.round,
        step=row.step,
        group=row.group,
        tutee=row.tutee,
        tutor=row.tutor,
        domain=row.domain,
        question=shapes.QuestionShape(id=row.question_id, prompt=row.question_prompt, answer=row.question_answer),
        rollout=rollout,
        own_solution=row.own_solution,
        feedback=shapes.FeedbackShape.model_validate(feedback) if feedback else None,
        teacher_prompt=row.teacher_prompt,
        in_loss=row.in_loss,
        divergence=divergence,
        labels=words,
    )
