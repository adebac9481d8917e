"""Exchanges as REST, exports and the inspector read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col, select

from app import shapes
from app.errors import NotFound
from app.records import labels
from app.records.exchange_search import search_of
from app.records.search_terms import Term, read_terms
from app.records.search_windows import Window
from app.tables import ExchangeLabelRow, ExchangeRow, FeedbackRow, TokenLensRow

NO_FEEDBACK = "none"
"""The outcome to ask for to see exchanges without feedback."""
FACTS = ("round", "step", "tutee", "tutor", "domain", "correct", "in_loss", "effect")
INDEXED = ("round", "effect", "outcomes")
"""Filters that an index of the table's own answers."""
MOST_KEPT = 8
"""Searches that a session remembers."""
MOST_AMONG = 20_000
"""Exchanges with a label, of a question or picked one by one that a search looks through."""


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
    effect: str | None = None
    label: str | None = None
    search: str | None = None
    """Words that must occur in question, rollout or feedback; see `app.records.search_terms`."""
    ids: Sequence[int] = ()

    @property
    def terms(self) -> tuple[Term, ...] | None:
        """What is searched for; None for nothing."""
        return read_terms(self.search) if self.search and self.search.strip() else None

    @property
    def is_narrow(self) -> bool:
        """Whether few of a run's exchanges fit, however many it has."""
        return self.step is not None or self.question is not None or self.label is not None or bool(self.ids)

    @property
    def is_mixed(self) -> bool:
        """Whether no single index of the table answers it, and rows that fit may lie far apart."""
        chosen = [name for name in (*FACTS, "outcomes") if getattr(self, name) not in (None, ())]
        return not self.is_narrow and bool(chosen) and not (len(chosen) == 1 and chosen[0] in INDEXED)

    def conditions(self) -> list[ColumnElement[bool]]:
        """For a query of `ExchangeRow`; all but the search."""
        wanted: Mapping[Any, Any] = {
            ExchangeRow.round: self.round,
            ExchangeRow.step: self.step,
            ExchangeRow.tutee: self.tutee,
            ExchangeRow.tutor: self.tutor,
            ExchangeRow.domain: self.domain,
            ExchangeRow.correct: self.correct,
            ExchangeRow.in_loss: self.in_loss,
            ExchangeRow.effect: self.effect,
        }
        found = [column == value for column, value in wanted.items() if value is not None]
        if self.outcomes:
            among = col(ExchangeRow.outcome).in_([outcome for outcome in self.outcomes if outcome != NO_FEEDBACK])
            found.append(or_(among, col(ExchangeRow.outcome).is_(None)) if NO_FEEDBACK in self.outcomes else among)
        return found + self.narrow_conditions()

    def narrow_conditions(self) -> list[ColumnElement[bool]]:
        """Those that few exchanges meet."""
        found: list[ColumnElement[bool]] = []
        if self.question is not None:
            found.append(col(ExchangeRow.question_id) == self.question)
        if self.label is not None:
            labelled = select(col(ExchangeLabelRow.exchange_id)).where(col(ExchangeLabelRow.label) == self.label)
            found.append(col(ExchangeRow.id).in_(labelled))
        if self.ids:
            found.append(col(ExchangeRow.id).in_(self.ids))
        return found


def reach(
    session: Session, run_id: int, filters: ExchangeFilters, *, after: int | None = None, newest_first: bool = False
) -> Window | None:
    """How far a page goes through the run from `after` on, where to search all of it takes long; None: to its end."""
    if not filters.terms:
        return None
    known: dict[Any, Window | None] = session.info.setdefault("reached", {})
    key = (run_id, filters, after, newest_first)
    if key not in known:
        facts = {"run": run_id, **{name: getattr(filters, name) for name in FACTS}, "outcome": next(iter(filters.outcomes), None)}
        search = search_of(session.get_bind().engine)
        known[key] = search.window(session, facts, filters.terms, after=after, newest_first=newest_first)
    return known[key]


def page_of_ids(
    session: Session,
    run_id: int,
    filters: ExchangeFilters,
    *,
    after: int | None = None,
    until: int | None = None,
    window: Window | None = None,
    newest_first: bool = False,
    limit: int,
) -> list[int]:
    """Ids of the run's exchanges that fit, in order of arrival (or the other way round), beyond id `after` and up to `until`.

    A search finds those in its `window`.
    """
    place: dict[str, Any] = {"after": after, "newest_first": newest_first}
    terms = filters.terms
    if terms == ():
        return []
    if terms:
        return _search_once(session, run_id, filters, terms, **place, until=until, window=window, limit=limit)
    if not filters.is_mixed:
        return _by_rows(session, run_id, filters, **place, until=until, limit=limit)
    # The index finds what few rows have in common without looking at the others. It follows behind: the newest are read as rows.
    indexed = search_of(session.get_bind().engine).upto(session, run_id)
    parts: list[Callable[[int], list[int]]] = [
        lambda most: _search(session, run_id, filters, (), **place, until=min(indexed, until or indexed), limit=most),
        lambda most: _by_rows(session, run_id, filters, **place, until=until, beyond=indexed, limit=most),
    ]
    found: list[int] = []
    for part in reversed(parts) if newest_first else parts:
        if len(found) < limit:
            found += part(limit - len(found))
    return found


def _by_rows(
    session: Session,
    run_id: int,
    filters: ExchangeFilters,
    *,
    after: int | None,
    until: int | None,
    beyond: int | None = None,
    newest_first: bool,
    limit: int,
) -> list[int]:
    key: Any = col(ExchangeRow.id)
    if filters.is_narrow:
        key = key + 0  # a sum has no index: few rows are found by what they have, then sorted
    rows = select(key).where(col(ExchangeRow.run_id) == run_id, *filters.conditions())
    if after is not None:
        rows = rows.where(key < after if newest_first else key > after)
    if until is not None:
        rows = rows.where(key <= until)
    if beyond is not None:
        rows = rows.where(key > beyond)
    found = session.exec(rows.order_by(key.desc() if newest_first else key).limit(limit)).all()
    return [one for one in found if one is not None]


def _search_once(session: Session, run_id: int, filters: ExchangeFilters, terms: Sequence[Term], *, limit: int, **place: Any) -> list[int]:
    """A page counts what it finds before it lists the first of it: a session, which lives as long as a request, asks once for both."""
    known: dict[Any, tuple[int, list[int]]] = session.info.setdefault("searched", {})
    key = (run_id, filters, *place.values())
    if len(known) >= MOST_KEPT:  # an export goes through everything within one session
        known.clear()
    if key not in known or len(known[key][1]) == known[key][0] < limit:
        known[key] = limit, _search(session, run_id, filters, terms, **place, limit=limit)
    return known[key][1][:limit]


def _search(session: Session, run_id: int, filters: ExchangeFilters, terms: Sequence[Term], **place: Any) -> list[int]:
    narrow = filters.narrow_conditions()
    among = None
    if narrow:
        rows = select(col(ExchangeRow.id)).where(col(ExchangeRow.run_id) == run_id, *narrow).limit(MOST_AMONG)
        among = [one for one in session.exec(rows).all() if one is not None]
    facts = {name: getattr(filters, name) for name in FACTS}
    found: list[int] = []
    for outcome in filters.outcomes or (None,):
        found += search_of(session.get_bind().engine).find(
            session, {"run": run_id, **facts, "outcome": outcome}, terms, among=among, **place
        )
    return sorted(found, reverse=place["newest_first"])[: place["limit"]]


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
    ids = page_of_ids(session, run_id, filters, after=after, until=until, newest_first=newest_first, limit=limit + 1)
    rows = in_order(session.exec(select(ExchangeRow).where(col(ExchangeRow.id).in_(ids[:limit]))).all(), ids)
    return shapes.Listing(items=_shapes(session, run_id, rows), next_cursor=str(ids[limit - 1]) if len(ids) > limit else None)


def in_order(rows: Sequence[ExchangeRow], ids: Sequence[int]) -> list[ExchangeRow]:
    """The rows in the order of their ids; those that are gone are left out."""
    known = {row.id: row for row in rows}
    return [known[key] for key in ids if key in known]


def exchange(session: Session, exchange_id: int) -> shapes.ExchangeDetail:
    """One exchange with the ids of its siblings.

    Raises:
        NotFound
    """
    row = exchange_row(session, exchange_id)
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
    return shapes.ExchangeDetail(
        **dict(found),
        siblings=[sibling for sibling in siblings if sibling is not None],
        tokens_recorded=has_tokens(session, row),
    )


def exchange_row(session: Session, exchange_id: int) -> ExchangeRow:
    """One exchange's row.

    Raises:
        NotFound
    """
    row = session.get(ExchangeRow, exchange_id) if 0 < exchange_id < 2**63 else None
    if row is None:
        raise NotFound("exchange", exchange_id)
    return row


def has_tokens(session: Session, row: ExchangeRow) -> bool:
    """Whether its tokens' probabilities were recorded."""
    lens = select(TokenLensRow.seq).where(col(TokenLensRow.run_id) == row.run_id, col(TokenLensRow.seq) == row.seq)
    return session.exec(lens).first() is not None


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
        again=shapes.AgainShape(text=row.again_text, correct=bool(row.again_correct), extracted=row.again_extracted)
        if row.again_text is not None
        else None,
        effect=row.effect,
        divergence=divergence,
        labels=words,
    )
