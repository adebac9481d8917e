"""What a run's charts draw, as numbers, after a place in its live stream: nothing is sent twice, nothing is left out.

The cursor is `EventRow.id`, the same that the stream carries, so that a page which heard of event n asks
for what came after the last one it drew.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.tables import BreakRescueRow, EvaluationRow, EventRow, ExchangeRow, GateDecisionRow, MetricRow

EVENTS_AT_ONCE = 20_000


def series(session: Session, run_id: int, after: int = 0) -> dict[str, Any]:
    """All points that arrived after `after`, at most `EVENTS_AT_ONCE` events' worth; `more` says whether to ask again.

    Points are short lists: metrics [name's index, step, value]; evaluations [student, domain, split, round,
    score, low, high]; gates [student, round, gap, threshold, open]; outcomes [tutee, step, outcome, count];
    break_rescue [tutee, tutor, round, break rate, rescue rate].
    """
    part = select(EventRow.id, EventRow.kind).where(col(EventRow.run_id) == run_id, col(EventRow.id) > after)
    part = part.order_by(col(EventRow.id)).limit(EVENTS_AT_ONCE)
    taken = part.subquery()
    kinds = session.exec(select(taken.c.kind, func.max(taken.c.id), func.count()).group_by(taken.c.kind)).all()
    until = max((newest for _, newest, _ in kinds), default=after)
    happened = {kind for kind, _, _ in kinds}
    window = (col(EventRow.run_id) == run_id, col(EventRow.id) > after, col(EventRow.id) <= until)

    def arrived(kind: str, table: Any, rows: Any) -> Any:
        """Rows of `table` whose event is in the window; SQL is not asked where there was none."""
        if kind not in happened:
            return ()
        return session.exec(rows.where(*window, col(EventRow.kind) == kind, table.run_id == EventRow.run_id, table.seq == EventRow.seq))

    names: dict[str, int] = {}
    points = select(MetricRow.name, MetricRow.step, MetricRow.value).order_by(col(MetricRow.id))
    metrics = [[names.setdefault(name, len(names)), step, value] for name, step, value in arrived("step_finished", MetricRow, points)]
    evaluations = arrived("evaluation_finished", EvaluationRow, select(EvaluationRow).order_by(col(EvaluationRow.id)))
    gates = arrived("gate_decided", GateDecisionRow, select(GateDecisionRow).order_by(col(GateDecisionRow.id)))
    counts = select(ExchangeRow.tutee, ExchangeRow.step, ExchangeRow.outcome, func.count()).where(col(ExchangeRow.outcome).is_not(None))
    counts = counts.group_by(col(ExchangeRow.tutee), col(ExchangeRow.step), col(ExchangeRow.outcome)).order_by(col(ExchangeRow.step))
    outcomes = arrived("exchange_recorded", ExchangeRow, counts)
    whole = select(BreakRescueRow).where(col(BreakRescueRow.difficulty_low).is_(None)).order_by(col(BreakRescueRow.id))
    broken = arrived("break_rescue_measured", BreakRescueRow, whole)
    return {
        "cursor": until,
        "more": sum(count for _, _, count in kinds) == EVENTS_AT_ONCE,
        "names": list(names),
        "metrics": metrics,
        "evaluations": [[e.student, e.domain, e.split, e.round, e.score, e.low, e.high] for e in evaluations],
        "gates": [[g.tutor, g.round, g.gap, g.threshold, bool(g.domains)] for g in gates],
        "outcomes": [list(row) for row in outcomes],
        "break_rescue": [
            [
                b.tutee,
                b.tutor,
                b.round,
                b.broken / b.correct_before if b.correct_before else None,
                b.rescued / b.wrong_before if b.wrong_before else None,
            ]
            for b in broken
        ],
    }
