"""How many exchanges fit a filter, and how many would with another value of each: from the index's counts, in time that does
not grow with the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlmodel import Session, col, select

from app import shapes
from app.records.exchange_queries import ExchangeFilters, page_of_ids
from app.records.exchange_search import Kind, search_of
from app.records.search_sql import COUNTED, NONE
from app.records.search_windows import Window
from app.tables import ExchangeRow

MOST = 200
"""Exchanges of a search that are counted one by one: more of them need not be read to fill a page."""
MOST_BY_ROWS = 2_000
"""The same of those with a label, of a step or a question, and of those that the index does not know yet."""
_COLUMNS = [getattr(ExchangeRow, name) for name in COUNTED]
MOST_TOLD = 100
"""Answers of a few KB each that are remembered of a run, as long as nothing is added."""


def facets(session: Session, run_id: int, filters: ExchangeFilters, window: Window | None = None) -> shapes.Facets:
    """Counts of the run's exchanges under the filter; every facet's under all filters but its own.

    Of a search those of its first `window` are counted.
    """
    left_out: dict[str, Any] = {name: None for name in COUNTED if name != "outcome"} | {"outcomes": ()}
    rest = replace(filters, **left_out)
    if filters.terms is not None:
        ids = page_of_ids(session, run_id, rest, window=window, limit=MOST + 1)
        if len(ids) <= MOST and window is None:
            return _tally(_one_by_one(session, col(ExchangeRow.id).in_(ids)), filters)
        fitting = len(ids if rest == filters else page_of_ids(session, run_id, filters, window=window, limit=MOST + 1))
        return shapes.Facets(total=min(fitting, MOST), more=fitting > MOST or window is not None, facets=[])
    if filters.is_narrow:
        few = _one_by_one(session, col(ExchangeRow.run_id) == run_id, *rest.conditions())
        if len(few) <= MOST_BY_ROWS:
            return _tally(few, filters)
        fitting = len(page_of_ids(session, run_id, filters, limit=MOST_BY_ROWS + 1))
        return shapes.Facets(total=min(fitting, MOST_BY_ROWS), more=fitting > MOST_BY_ROWS, facets=[])
    counts = search_of(session.get_bind().engine).counts(session, run_id)
    newer = _one_by_one(session, col(ExchangeRow.run_id) == run_id, col(ExchangeRow.id) > counts.upto)
    if newer:
        told = _tally([*counts.kinds, *newer], filters)
        return told.model_copy(update={"more": True}) if len(newer) > MOST_BY_ROWS else told
    wanted = tuple((place, *accepted) for place, accepted in _wanted(filters))
    remembered: shapes.Facets = counts.told.get(wanted) or _tally(counts.kinds, filters)
    if len(counts.told) >= MOST_TOLD:
        counts.told.clear()
    counts.told[wanted] = remembered
    return remembered


def _one_by_one(session: Session, *conditions: Any) -> list[Kind]:
    rows = session.connection().execute(select(*_COLUMNS).where(*conditions).limit(MOST_BY_ROWS + 1)).all()
    return [([NONE if value is None else value for value in row], 1) for row in rows]


def _tally(kinds: Iterable[Kind], filters: ExchangeFilters) -> shapes.Facets:
    """One pass: what fits counts for every facet, what misses in one thing alone counts for that facet."""
    wanted = _wanted(filters)
    counts: Mapping[str, Counter[Any]] = {name: Counter() for name in COUNTED}
    total = 0
    for values, number in kinds:
        missed = [place for place, accepted in wanted if values[place] not in accepted]
        if not missed:
            total += number
            for name, value in zip(COUNTED, values, strict=True):
                counts[name][value] += number
        elif len(missed) == 1:
            counts[COUNTED[missed[0]]][values[missed[0]]] += number
    return shapes.Facets(
        total=total,
        more=False,
        facets=[
            shapes.Facet(
                name=name, values=[shapes.FacetCount(value=_said(name, value), exchanges=number) for value, number in sorted(found.items())]
            )
            for name, found in counts.items()
        ],
    )


def _wanted(filters: ExchangeFilters) -> list[tuple[int, Sequence[Any]]]:
    found = []
    for place, name in enumerate(COUNTED):
        if name == "outcome":
            accepted: Sequence[Any] = filters.outcomes
        else:
            value = getattr(filters, name)
            accepted = () if value is None else (value,)
        if accepted:
            found.append((place, accepted))
    return found


def _said(name: str, value: Any) -> str:
    return str(bool(value)).lower() if name in ("correct", "in_loss") else str(value)
