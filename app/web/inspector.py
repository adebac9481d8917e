"""The inspector: filters with their counts, and the list, read by key so that its millionth exchange is as near as its first.

Long texts stay in the database until one exchange is opened; a search alone reads those of its page, to show where it hit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import func
from sqlmodel import Session, col, select

from app import shapes
from app.records import exchange_facets, labels, queries, views
from app.records.comments import counts_of
from app.records.exchange_queries import ExchangeFilters, page_of_ids, reach
from app.records.labels import STAR
from app.records.page_queries import get_cast
from app.records.search_terms import pattern
from app.tables import ExchangeRow, FeedbackRow
from app.web.contexts import LIVE
from app.web.exchange_filters import Chip, Choice, Group, chips, groups, query_of
from app.web.exchange_pages import ExchangePage, Look, exchange_page
from app.web.marking import Passage, hit_spans, passage
from app.web.neighbours import Stretch

PAGE = 30
EXCERPT = 220
AROUND = 60
"""Characters shown before a hit."""
MOST_LABELS = 30


@dataclass(frozen=True, slots=True)
class ExchangeLine:
    """One row of the list. `extracted` is a beginning; `hit` is what was searched for with what stands around it."""

    id: int
    index: int
    correct: bool
    extracted: str | None
    text: str
    outcome: str | None
    effect: str | None
    in_loss: bool
    starred: bool
    comments: int
    hit: Passage | None


@dataclass(frozen=True, slots=True)
class ExchangeGroup:
    """Rollouts of one question in one step that stand next to each other in the list."""

    excerpt: Passage
    domain: str
    round: int
    step: int
    tutee: str
    tutee_hue: int
    tutor: str | None
    tutor_hue: int
    lines: tuple[ExchangeLine, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A part of the list. Addresses of the parts before and after are None where there are none."""

    groups: tuple[ExchangeGroup, ...]
    query: str
    current: int | None
    previous: str | None
    next: str | None


@dataclass(frozen=True, slots=True)
class Inspector:
    """The page."""

    run_id: int
    run_name: str
    filters: ExchangeFilters
    query: str
    total: int
    more: bool
    """There are more than `total`."""
    partly: bool
    """Only a part of the run was looked through: there may be more than `total`."""
    chips: tuple[Chip, ...]
    groups: tuple[Group, ...]
    labels: tuple[Choice, ...]
    views: tuple[shapes.View, ...]
    hidden: tuple[tuple[str, str], ...]
    """The filter but for the search, for the search's form."""
    rows: Rows
    exchange: ExchangePage | None
    first: str
    last: str
    low: int
    high: int
    """The run's first and last exchange, for a place in between."""
    live: bool
    """More may come."""


def inspector(
    session: Session, run_id: int, filters: ExchangeFilters, look: Look, *, current: int | None, after: int | None, before: int | None
) -> Inspector:
    """The page with the list around `current`, after an exchange, or before one (0: the end).

    Raises:
        NotFound
    """
    run, cast = queries.run_row(session, run_id), get_cast(session, run_id)
    window = reach(session, run_id, filters)
    told = exchange_facets.facets(session, run_id, filters, window)
    low, high = bounds(session, run_id)
    if current is not None and after is None and before is None:
        near = reach(session, run_id, filters, after=current, newest_first=True)
        before_it = page_of_ids(session, run_id, filters, after=current, window=near, newest_first=True, limit=PAGE // 3)
        after = before_it[-1] - 1 if before_it else current - 1 if near else None
    rows = exchange_rows(session, run_id, filters, after=after, before=before, current=current)
    shown = current or next((line.id for group in rows.groups for line in group.lines), None)
    hues = {name: cast.hue(name) for name in cast.students}
    counts = labels.counts(session, run_id=run_id, limit=MOST_LABELS).items
    return Inspector(
        run_id=run_id,
        run_name=run.name,
        filters=filters,
        query=query_of(filters),
        total=told.total,
        more=told.more,
        partly=window is not None and told.total <= exchange_facets.MOST,
        chips=chips(filters),
        groups=groups(filters, told, hues),
        labels=_labels(filters, counts),
        views=tuple(views.listing(session)),
        hidden=_pairs(replace(filters, search=None)),
        rows=replace(rows, current=shown),
        exchange=exchange_page(session, shown, filters, look, _stretch(rows)) if shown else None,
        first=query_of(filters),
        last=query_of(filters, before=0),
        low=low,
        high=high,
        live=run.status in LIVE,
    )


def _stretch(rows: Rows) -> Stretch:
    """What the list says of what stands next to its exchanges."""
    ids = [line.id for group in rows.groups for line in group.lines]
    return Stretch(ids, rows.previous is None, rows.next is None)


def bounds(session: Session, run_id: int) -> tuple[int, int]:
    """Ids of the run's first and last exchange; zeros where there is none."""
    ends = (select(end(col(ExchangeRow.id))).where(col(ExchangeRow.run_id) == run_id).scalar_subquery() for end in (func.min, func.max))
    low, high = session.exec(select(*ends)).one()
    return low or 0, high or 0


def rows_at(session: Session, run_id: int, filters: ExchangeFilters, share: float) -> Rows:
    """The list from so far into the run, 0 to 1: by number, not by counting, so that every place is as near as the first."""
    low, high = bounds(session, run_id)
    found = exchange_rows(session, run_id, filters, after=low + int((high - low) * share) - 1)
    return found if found.groups else exchange_rows(session, run_id, filters, before=0)


def exchange_rows(
    session: Session,
    run_id: int,
    filters: ExchangeFilters,
    *,
    after: int | None = None,
    before: int | None = None,
    current: int | None = None,
) -> Rows:
    """A part of the list in reading order: those after an id, before one (0: the last part), or the first."""
    back = before is not None
    start = before or None if back else after
    window = reach(session, run_id, filters, after=start, newest_first=back)
    ids = page_of_ids(session, run_id, filters, after=start, window=window, newest_first=back, limit=PAGE + 1)
    beyond = ids[PAGE - 1] if len(ids) > PAGE else window.last if window else None
    ids = sorted(ids[:PAGE])
    # Where nothing was found, what stands on the other side begins where this was begun.
    behind = None if not start else ids[-1 if back else 0] if ids else (start - 1 if back else start + 1) if window else None
    return Rows(
        groups=_groups(session, run_id, filters, ids),
        query=query_of(filters),
        current=current,
        previous=_further(filters, before=beyond if back else behind),
        next=_further(filters, after=behind if back else beyond),
    )


def _further(filters: ExchangeFilters, **place: int | None) -> str | None:
    return None if None in place.values() else query_of(filters, **place)


def _groups(session: Session, run_id: int, filters: ExchangeFilters, ids: Sequence[int]) -> tuple[ExchangeGroup, ...]:
    cast = get_cast(session, run_id)
    sought = pattern(filters.terms or ())
    columns: tuple[Any, ...] = (
        *(ExchangeRow.id, ExchangeRow.seq, ExchangeRow.round, ExchangeRow.step, ExchangeRow.tutee, ExchangeRow.tutor, ExchangeRow.domain),
        *(ExchangeRow.group, ExchangeRow.rollout_index, ExchangeRow.correct, ExchangeRow.outcome, ExchangeRow.effect, ExchangeRow.in_loss),
        func.substr(ExchangeRow.extracted, 1, EXCERPT).label("extracted"),
        (col(ExchangeRow.question_prompt) if sought else func.substr(ExchangeRow.question_prompt, 1, EXCERPT)).label("question"),
        (col(ExchangeRow.rollout_text) if sought else func.substr(ExchangeRow.rollout_text, 1, EXCERPT)).label("text"),
    )
    found = {row.id: row for row in session.connection().execute(select(*columns).where(col(ExchangeRow.id).in_(ids)))}
    said = _feedback_texts(session, run_id, [row.seq for row in found.values() if row.outcome]) if sought else {}
    starred = labels.with_label(session, ids, STAR)
    commented = counts_of(session, ids)
    made = []
    present = [found[key] for key in ids if key in found]
    for (tutee, step, _), members in groupby(present, lambda row: (row.tutee, row.step, row.group)):
        same = list(members)
        head = same[0]
        made.append(
            ExchangeGroup(
                excerpt=_excerpt(head.question, sought) or passage(_line(head.question[:EXCERPT])),
                domain=head.domain,
                round=head.round,
                step=step,
                tutee=tutee,
                tutee_hue=cast.hue(tutee),
                tutor=head.tutor,
                tutor_hue=cast.hue(head.tutor),
                lines=tuple(
                    ExchangeLine(
                        id=row.id,
                        index=row.rollout_index,
                        correct=row.correct,
                        extracted=row.extracted,
                        text=_line(row.text[:EXCERPT]),
                        outcome=row.outcome,
                        effect=row.effect,
                        in_loss=row.in_loss,
                        starred=row.id in starred,
                        comments=commented.get(row.id, 0),
                        hit=_excerpt(row.text, sought) or _excerpt(said.get(row.seq, ""), sought),
                    )
                    for row in same
                ),
            )
        )
    return tuple(made)


def _feedback_texts(session: Session, run_id: int, seqs: Sequence[int]) -> dict[int, str]:
    rows = select(FeedbackRow.seq, FeedbackRow.raw).where(col(FeedbackRow.run_id) == run_id, col(FeedbackRow.seq).in_(seqs))
    return dict(session.exec(rows).all())


def _excerpt(text: str, sought: re.Pattern[str] | None) -> Passage | None:
    """The first place that was searched for, with what stands around it; None where there is none."""
    found = sought.search(text) if sought and text else None
    if found is None:
        return None
    start = max(0, found.start() - AROUND)
    shown = ("…" if start else "") + _line(text[start : start + EXCERPT])
    return passage(shown, hit_spans(shown, sought))


def _line(text: str) -> str:
    return " ".join(text.split())


def _labels(filters: ExchangeFilters, counts: Sequence[shapes.LabelCount]) -> tuple[Choice, ...]:
    known = {count.label: count.exchanges for count in counts}
    if filters.label is not None:
        known.setdefault(filters.label, 0)
    ordered = sorted(known, key=lambda label: (label != STAR, label))
    return tuple(
        Choice(
            label="★ Starred" if label == STAR else label,
            count=known[label],
            chosen=label == filters.label,
            query=query_of(replace(filters, label=None if label == filters.label else label)),
        )
        for label in ordered
    )


def _pairs(filters: ExchangeFilters) -> tuple[tuple[str, str], ...]:
    return tuple(parse_qsl(query_of(filters)[1:]))
