"""What the charts of a run under way were last told from its beginning on, remembered: the next page that opens them is told this and
the news, as a page is that stays open, and nobody sums up all of the run's steps again.

A run that has ended needs none of it: see `app.records.digests`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlmodel import Session

from app.records import queries
from app.records.windows import CURVE_POINTS, HEAT_POINTS, TALLY_POINTS, Window, steps_done
from app.web.series import Wanted, series

MOST = 32
"""Answers of one database, of some hundred KB each."""
_KNOWN: WeakKeyDictionary[Engine, dict[Any, dict[str, Any]]] = WeakKeyDictionary()
_POINTS = {"curves": CURVE_POINTS, "tallies": TALLY_POINTS, "heat": HEAT_POINTS}


def series_of(session: Session, run_id: int, wanted: Wanted) -> dict[str, Any]:
    """`app.web.series.series`, of a run under way made of what is known where all of it is wanted. Nobody may change the answer.

    Raises:
        NotFound
    """
    run = queries.run_row(session, run_id)
    if wanted.after >= 0 or run.ended_at is not None:
        return series(session, run_id, wanted)
    bind = session.get_bind()
    remembered = _KNOWN.setdefault(bind if isinstance(bind, Engine) else bind.engine, {})
    key = (run_id, run.created_at, wanted.curves, tuple(wanted.names), wanted.tallies, wanted.heat, wanted.quantity)
    known = remembered.get(key)
    widths = {name: known[name]["width"] for name in _POINTS if known and name in known}
    if known is None or widths != {name: _width(session, run_id, wanted, name) for name in widths}:
        known = series(session, run_id, wanted)
    else:
        known = _with(known, series(session, run_id, replace(wanted, after=known["cursor"], **widths)))
    if len(remembered) >= MOST and key not in remembered:
        remembered.clear()
    remembered[key] = known
    return known


def _width(session: Session, run_id: int, wanted: Wanted, name: str) -> int:
    """What a chart's entries are wide now: they grow with the run."""
    return Window(width=getattr(wanted, name), points=_POINTS[name]).settled(steps_done(session, run_id)).width


def _with(known: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
    """Both answers as one: entries that come again take the place of those from there on."""
    made = {**known, "cursor": news["cursor"], "names": news["names"] or known["names"]}
    for name in ("evaluations", "gates", "break_rescue"):
        made[name] = [*known[name], *news[name]]
    for name in ("tallies", "rounds", "heat"):
        if name in news:
            made[name] = {**news[name], "items": _entries(known[name]["items"], news[name]["items"])}
    if "curves" in news:
        lines = dict(known["curves"]["items"])
        for name, line in news["curves"]["items"].items():
            lines[name] = _line(lines[name], line) if name in lines else line
        made["curves"] = {**news["curves"], "items": lines}
    return made


def _entries(known: Sequence[Any], news: Sequence[Any]) -> list[Any]:
    """Entries [student, first step, ...], each student's in order."""
    again: dict[str, int] = {}
    for student, first, *_ in news:
        again.setdefault(student, first)
    found: dict[str, list[Any]] = {}
    for entry in known:
        if entry[0] not in again or entry[1] < again[entry[0]]:
            found.setdefault(entry[0], []).append(entry)
    for entry in news:
        found.setdefault(entry[0], []).append(entry)
    return [entry for entries in found.values() for entry in entries]


def _line(known: Mapping[str, list[Any]], news: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns of equal length."""
    kept = bisect_left(known["first"], news["first"][0])
    return {name: [*known[name][:kept], *column] for name, column in news.items()}
