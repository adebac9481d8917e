"""What a run's charts draw: one question a poll, answered with what has changed since the one before.

A place in the run is a `seq`, which rises in the order of arrival. Of curves and counts the page is given entries of a
width that it was told first; the entries into which something new has fallen are given again, whole, in place of those it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, SQLModel, col, select

from app.records import queries
from app.records.chart_shapes import Curves, Histograms, Quantity, Tallies
from app.records.curves import curves
from app.records.tallies import histograms, tallies, tallies_by_round
from app.records.windows import CURVE_POINTS, HEAT_POINTS, TALLY_POINTS, Window
from app.tables import BreakRescueRow, EvaluationRow, EventRow, GateDecisionRow, RunRow

MOST_EVENTS = 20_000
"""After so much news the page is told everything again: that is less than looking through all of it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to answer with. Widths are in steps; 0: one that fits; None: leave the part out."""

    after: int = -1
    """Place in the run of the newest that the page has; -1: it has nothing."""
    names: Sequence[str] = ()
    curves: int | None = None
    tallies: int | None = None
    heat: int | None = None
    quantity: Quantity = "response_tokens"


def series(session: Session, run_id: int, wanted: Wanted) -> dict[str, Any]:
    """The parts that are wanted and have news.

    Times are milliseconds since 1970. evaluations [student, domain, split, round, score, low, high, at]; gates [student,
    round, gap, threshold, open, at]; break_rescue [tutee, tutor, round, break rate, rescue rate, at]; curves {name: columns
    first, last, count, mean, low, high, at}, where nothing is summed up only first, mean, at; tallies and rounds [student,
    first, last, first round, last round, rollouts, correct, truncated, tokens, tokens before, {outcome: count}, begun at,
    at]; heat [student, first, last, [[low, high, count], ...]].
    """
    newest = session.exec(select(func.max(EventRow.seq)).where(col(EventRow.run_id) == run_id)).one()
    until = wanted.after if newest is None else max(newest, wanted.after)
    changed = _changed(session, run_id, wanted.after, until)

    def arrived(table: type[SQLModel], *more: Any) -> Sequence[Any]:
        row: Any = table
        rows = select(table).where(row.run_id == run_id, row.seq > wanted.after, row.seq <= until, *more)
        return session.exec(rows.order_by(row.seq)).all() if until > wanted.after else ()

    evaluations = arrived(EvaluationRow)
    gates = arrived(GateDecisionRow)
    broken = arrived(BreakRescueRow, col(BreakRescueRow.difficulty_low).is_(None))
    answer: dict[str, Any] = {
        "cursor": until,
        "names": queries.metric_names(session, run_id) if changed["step_finished"] else None,
        "evaluations": [[e.student, e.domain, e.split, e.round, e.score, e.low, e.high, _ms(e.at)] for e in evaluations],
        "gates": [[g.tutor, g.round, g.gap, g.threshold, bool(g.domains), _ms(g.at)] for g in gates],
        "break_rescue": [
            [b.tutee, b.tutor, b.round, _share(b.broken, b.correct_before), _share(b.rescued, b.wrong_before), _ms(b.at)] for b in broken
        ],
    }
    steps, exchanges = changed["step_finished"], changed["exchange_recorded"]
    if steps and wanted.curves is not None and wanted.names:
        width = wanted.curves
        part = [curves(session, run_id, _names_of(who, wanted.names), _window(at, width, CURVE_POINTS)) for who, at in _of(steps, width)]
        answer["curves"] = _curves(part)
    if exchanges and wanted.tallies is not None:
        width = wanted.tallies
        part_of_steps = [tallies(session, run_id, _window(at, width, TALLY_POINTS), who) for who, at in _of(exchanges, width)]
        answer["tallies"] = _tallies(part_of_steps)
        length = session.exec(select(RunRow.steps_per_round).where(col(RunRow.id) == run_id)).one()
        rounds = {who: 0 if at < 1 or length < 1 else (at - 1) // length * length + 1 for who, at in exchanges.items()}
        answer["rounds"] = _tallies([tallies_by_round(session, run_id, Window(at), who) for who, at in rounds.items()])
    if exchanges and wanted.heat is not None:
        width = wanted.heat
        part_of_heat = [
            histograms(session, run_id, wanted.quantity, _window(at, width, HEAT_POINTS), who) for who, at in _of(exchanges, width)
        ]
        answer["heat"] = _heat(part_of_heat)
    return answer


def _changed(session: Session, run_id: int, after: int, until: int) -> Mapping[str, Mapping[str | None, int]]:
    """Kind of event -> student -> its first step that got one after `after`; {None: 0} for everything."""
    first: dict[str, dict[str | None, int]] = {"step_finished": {}, "exchange_recorded": {}}
    if after >= 0:
        row = EventRow
        news = select(row.kind, row.data).where(col(row.run_id) == run_id, col(row.seq) > after, col(row.seq) <= until)
        found = session.exec(news.order_by(col(row.seq)).limit(MOST_EVENTS)).all()
        if len(found) < MOST_EVENTS:
            for kind, data in found:
                if kind in first:
                    first[kind][data["tutee"]] = min(data["step"], first[kind].get(data["tutee"], data["step"]))
            return first
    return {kind: {None: 0} for kind in first}


def _of(changed: Mapping[str | None, int], width: int) -> Iterable[tuple[str | None, int]]:
    """Who has news, and from which step on; everybody from the start where no width was agreed."""
    return changed.items() if width else {None: 0}.items()


def _window(first: int, width: int, points: int) -> Window:
    """From `first` on; the whole run where no width was agreed."""
    return Window(first, width=width, points=points) if width else Window(points=points)


def _names_of(student: str | None, names: Sequence[str]) -> Sequence[str]:
    """A student's metrics; where there are none of them, a name that nothing has, since no name at all means every one."""
    return names if student is None else [name for name in names if name.startswith(f"{student}/")] or [""]


def _curves(parts: Sequence[Curves]) -> dict[str, Any]:
    made = {}
    width = parts[0].width
    for curve in (item for part in parts for item in part.items):
        columns: dict[str, Any] = {
            "first": curve.first,
            "mean": [_short(value) for value in curve.mean],
            "at": [_ms(at) for at in curve.at],
        }
        if width > 1:
            columns |= {"last": curve.last, "count": curve.count}
            columns |= {"low": [_short(value) for value in curve.low], "high": [_short(value) for value in curve.high]}
        made[curve.name] = columns
    return {"width": width, "items": made}


def _tallies(parts: Sequence[Tallies]) -> dict[str, Any]:
    items = [
        [
            item.student, item.first, item.last, item.first_round, item.last_round, item.rollouts, item.correct, item.truncated,
            item.tokens, item.tokens_before, item.outcomes, _ms(item.begun_at), _ms(item.at),
        ]
        for part in parts
        for item in part.items
    ]  # fmt: skip
    return {"width": parts[0].width, "items": items}


def _heat(parts: Sequence[Histograms]) -> dict[str, Any]:
    items = [
        [item.student, item.first, item.last, [[round(one.low, 5), round(one.high, 5), one.count] for one in item.bins]]
        for part in parts
        for item in part.items
    ]
    return {"width": parts[0].width, "quantity": parts[0].quantity, "items": items}


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _short(value: float) -> float:
    """Seven digits are more than any screen shows."""
    return float(f"{value:.7g}")
