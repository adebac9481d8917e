"""The exchanges of a run as a list with filters, and one exchange with all that belongs to it.

The list is read by keyset on `id`, which rises in the order of arrival, so that the last page opens as
fast as the first; long texts stay in the database until one exchange is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, get_args
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, func
from sqlalchemy.orm import load_only
from sqlmodel import Session, col, select

from app.errors import NotFound
from app.records import queries
from app.records.page_queries import get_cast
from app.tables import ExchangeRow, FeedbackRow
from app.web.marking import BRIEF, Passage, feedback_spans, passage, question_spans
from app.web.words import OUTCOMES
from opcod.types import FeedbackOutcome

PAGE = 50
EXCERPT = 220
LISTED = (
    ExchangeRow.id,
    ExchangeRow.round,
    ExchangeRow.step,
    ExchangeRow.tutee,
    ExchangeRow.tutor,
    ExchangeRow.domain,
    ExchangeRow.group,
    ExchangeRow.correct,
    ExchangeRow.outcome,
    ExchangeRow.in_loss,
)
"""The columns of a row of the list: no long text among them."""
NO_FEEDBACK = "none"
"""The filter's word for exchanges that no tutor commented."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What the address asks for; None and "" ask for nothing. Values that make no sense count as nothing."""

    round: int | None = None
    step: int | None = None
    tutee: str = ""
    domain: str = ""
    correct: bool | None = None
    outcome: str = ""

    @property
    def query(self) -> str:
        """The part of an address that says this, with its question mark; "" for no filter."""
        words = {True: "yes", False: "no"}
        chosen = {item.name: getattr(self, item.name) for item in fields(self)}
        text = urlencode(
            {key: words.get(value, value) if key == "correct" else value for key, value in chosen.items() if value not in (None, "")}
        )
        return f"?{text}" if text else ""

    def with_page(self, **page: int | str) -> str:
        """The same with a place in the list."""
        return f"{self.query}{'&' if self.query else '?'}{urlencode(page)}"

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Filters:
        outcome = given.get("outcome", "")
        return cls(
            round=whole(given.get("round")),
            step=whole(given.get("step")),
            tutee=given.get("tutee", "")[:64],
            domain=given.get("domain", "")[:64],
            correct={"yes": True, "no": False}.get(given.get("correct", "")),
            outcome=outcome if outcome in (*get_args(FeedbackOutcome), NO_FEEDBACK) else "",
        )


@dataclass(frozen=True, slots=True)
class ExchangeLine:
    """One row of the list. `text` and `extracted` are beginnings."""

    id: int
    text: str
    correct: bool
    extracted: str | None
    outcome: str | None
    in_loss: bool


@dataclass(frozen=True, slots=True)
class ExchangeGroup:
    """Rollouts of one question in one step that stand next to each other in the list."""

    excerpt: str
    domain: str
    round: int
    step: int
    tutee: str
    tutee_hue: int
    tutor: str | None
    tutor_hue: int
    lines: tuple[ExchangeLine, ...]


@dataclass(frozen=True, slots=True)
class ExchangeList:
    """The list's page. Addresses of the other pages are None where there are none."""

    run_id: int
    run_name: str
    groups: tuple[ExchangeGroup, ...]
    filters: Filters
    students: tuple[str, ...]
    domains: tuple[str, ...]
    rounds: int
    outcomes: tuple[str, ...]
    first: str | None
    previous: str | None
    next: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Sibling:
    """A rollout of the same question in the same step."""

    id: int
    index: int
    correct: bool
    outcome: str | None
    current: bool


@dataclass(frozen=True, slots=True)
class FeedbackView:
    """The tutor's text with its marks, and what became of it."""

    raw: Passage
    outcome: str
    label: str
    reason: str
    concept: str | None
    matched_word: str | None
    removed: int


@dataclass(frozen=True, slots=True)
class ExchangePage:
    """One exchange."""

    id: int
    run_id: int
    run_name: str
    round: int
    step: int
    tutee: str
    tutee_hue: int
    tutor: str | None
    tutor_hue: int
    domain: str
    question_id: str
    question: Passage
    answer: Passage
    matched: bool
    siblings: tuple[Sibling, ...]
    sibling_previous: int | None
    sibling_next: int | None
    rollout: Passage
    rollout_index: int
    tokens: int
    correct: bool
    extracted: Passage | None
    truncated: bool
    own_solution: Passage | None
    feedback: FeedbackView | None
    teacher_prompt: Passage | None
    in_loss: bool
    loss_reason: str
    divergence_mean: float | None
    divergence_max: float | None
    previous: int | None
    next: int | None
    query: str
    full: bool


def whole(text: str | None) -> int | None:
    """A whole number that a database can hold, or None."""
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def exchange_list(session: Session, run_id: int, filters: Filters, *, after: int | None = None, before: int | None = None) -> ExchangeList:
    """A page of exchanges in reading order: those after an id, before one (0: the last page), or the first.

    Raises:
        NotFound
    """
    run, cast = queries.run_row(session, run_id), get_cast(session, run_id)
    conditions = _conditions(run_id, filters)
    wanted = select(ExchangeRow, _start(ExchangeRow.question_prompt), _start(ExchangeRow.rollout_text), _start(ExchangeRow.extracted))
    wanted = wanted.options(load_only(*LISTED)).where(*conditions).limit(PAGE + 1)  # type: ignore[arg-type]
    key = col(ExchangeRow.id)
    if before is not None:
        backward = wanted.where(key < before) if before else wanted
        found = list(reversed(session.exec(backward.order_by(key.desc())).all()))
        more_before, more_after = len(found) > PAGE, bool(before)
        found = found[-PAGE:]
    else:
        found = list(session.exec((wanted.where(key > after) if after else wanted).order_by(key)).all())
        more_before, more_after = bool(after), len(found) > PAGE
        found = found[:PAGE]
    groups = []
    for (tutee, step, _group), members in groupby(found, lambda item: (item[0].tutee, item[0].step, item[0].group)):
        same = list(members)
        row, question = same[0][0], same[0][1]
        lines = tuple(
            ExchangeLine(item.id or 0, " ".join(text.split()), item.correct, extracted, item.outcome, item.in_loss)
            for item, _, text, extracted in same
        )
        groups.append(
            ExchangeGroup(
                excerpt=" ".join(question.split()),
                domain=row.domain,
                round=row.round,
                step=step,
                tutee=tutee,
                tutee_hue=cast.hue(tutee),
                tutor=row.tutor,
                tutor_hue=cast.hue(row.tutor),
                lines=lines,
            )
        )
    return ExchangeList(
        run_id=run_id,
        run_name=run.name,
        groups=tuple(groups),
        filters=filters,
        students=cast.students,
        domains=cast.domains,
        rounds=max(run.rounds, run.round),
        outcomes=get_args(FeedbackOutcome),
        first=filters.query or "?" if more_before else None,
        previous=filters.with_page(before=found[0][0].id or 0) if found and more_before else None,
        next=filters.with_page(after=found[-1][0].id or 0) if found and more_after else None,
        last=filters.with_page(before=0) if more_after else None,
    )


def exchange_page(session: Session, exchange_id: int, filters: Filters, *, full: bool = False) -> ExchangePage:
    """One exchange; its neighbours are those of the filtered list.

    Raises:
        NotFound
    """
    row = session.get(ExchangeRow, exchange_id) if exchange_id < 2**63 else None
    if row is None:
        raise NotFound("exchange", exchange_id)
    run, cast = queries.run_row(session, row.run_id), get_cast(session, row.run_id)
    said = session.get(FeedbackRow, (row.run_id, row.seq))
    spans = question_spans(row.question_prompt, said.concept, said.matched_word) if said else []
    siblings = _siblings(session, row)
    place = next(index for index, sibling in enumerate(siblings) if sibling.current)
    return ExchangePage(
        id=exchange_id,
        run_id=row.run_id,
        run_name=run.name,
        round=row.round,
        step=row.step,
        tutee=row.tutee,
        tutee_hue=cast.hue(row.tutee),
        tutor=row.tutor,
        tutor_hue=cast.hue(row.tutor),
        domain=row.domain,
        question_id=row.question_id,
        question=passage(row.question_prompt, spans, full=full),
        answer=passage(row.question_answer, full=full, first=BRIEF),
        matched=bool(spans),
        siblings=siblings,
        sibling_previous=siblings[place - 1].id if place else None,
        sibling_next=siblings[place + 1].id if place + 1 < len(siblings) else None,
        rollout=passage(row.rollout_text, full=full),
        rollout_index=row.rollout_index,
        tokens=row.rollout_tokens,
        correct=row.correct,
        extracted=passage(row.extracted, full=full, first=BRIEF) if row.extracted is not None else None,
        truncated=row.truncated,
        own_solution=_maybe(row.own_solution, full),
        feedback=_feedback(said, full) if said else None,
        teacher_prompt=_maybe(row.teacher_prompt, full),
        in_loss=row.in_loss,
        loss_reason=_loss_reason(row),
        divergence_mean=row.divergence_mean,
        divergence_max=row.divergence_max,
        previous=_neighbour(session, row, filters, later=False),
        next=_neighbour(session, row, filters, later=True),
        query=filters.query,
        full=full,
    )


def _start(text: Any) -> Any:
    return func.substr(text, 1, EXCERPT)


def _conditions(run_id: int, filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [col(ExchangeRow.run_id) == run_id]
    chosen: dict[Any, Any] = {
        col(ExchangeRow.round): filters.round,
        col(ExchangeRow.step): filters.step,
        col(ExchangeRow.tutee): filters.tutee or None,
        col(ExchangeRow.domain): filters.domain or None,
        col(ExchangeRow.correct): filters.correct,
    }
    conditions += [column == value for column, value in chosen.items() if value is not None]
    if filters.outcome:
        outcome = col(ExchangeRow.outcome)
        conditions.append(outcome.is_(None) if filters.outcome == NO_FEEDBACK else outcome == filters.outcome)
    return conditions


def _neighbour(session: Session, row: ExchangeRow, filters: Filters, *, later: bool) -> int | None:
    key = col(ExchangeRow.id)
    beyond, order = (key > row.id, key) if later else (key < row.id, key.desc())
    return session.exec(select(key).where(*_conditions(row.run_id, filters), beyond).order_by(order).limit(1)).first()


def _siblings(session: Session, row: ExchangeRow) -> tuple[Sibling, ...]:
    same = select(ExchangeRow.id, ExchangeRow.rollout_index, ExchangeRow.correct, ExchangeRow.outcome).where(
        col(ExchangeRow.run_id) == row.run_id,
        col(ExchangeRow.tutee) == row.tutee,
        col(ExchangeRow.step) == row.step,
        col(ExchangeRow.group) == row.group,
    )
    found = session.exec(same.order_by(col(ExchangeRow.rollout_index), col(ExchangeRow.id))).all()
    return tuple(Sibling(key or 0, index, correct, outcome, key == row.id) for key, index, correct, outcome in found)


def _feedback(said: FeedbackRow, full: bool) -> FeedbackView:
    label, reason = OUTCOMES[said.outcome]  # type: ignore[index]
    raw = passage(said.raw, feedback_spans(said.raw, said.concept, said.removed), full=full)
    return FeedbackView(raw, said.outcome, label, reason, said.concept, said.matched_word, len(said.removed))


def _maybe(text: str | None, full: bool) -> Passage | None:
    return passage(text, full=full) if text is not None else None


def _loss_reason(row: ExchangeRow) -> str:
    if row.teacher_prompt is None and row.in_loss:
        return "It counted in the update by its reward; there was no self-teacher."
    if not row.in_loss:
        return "Left out of the update: the self-teacher had neither a solution nor kept feedback to show."
    had = [
        text
        for text, given in (("a correct solution of the tutee’s own", row.own_solution), ("the kept feedback", row.outcome == "kept"))
        if given
    ]
    return f"It counted in the update: the self-teacher was shown {' and '.join(had) or 'more than the question'}."
