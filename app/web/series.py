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
    mine = (col(EventRow.run_id) == run_id, col(EventRow.id) > after)
    last = session.exec(select(EventRow.id).where(*mine).order_by(col(EventRow.id)).offset(EVENTS_AT_ONCE - 1).limit(1)).first()
    newest = session.exec(select(func.max(EventRow.id)).where(*mine)).one() or after
    until = last or newest
    window = (*mine, col(EventRow.id) <= until)

    def arrived(kind: str, table: Any) -> Any:
        return (*window, col(EventRow.kind) == kind, table.run_id == EventRow.run_id, table.seq == EventRow.seq)

    names: dict[str, int] = {}
    metrics = [
        [names.setdefault(name, len(names)), step, value]
        for name, step, value in session.exec(
            select(MetricRow.name, MetricRow.step, MetricRow.value).where(*arrived("step_finished", MetricRow)).order_by(col(MetricRow.id))
        )
    ]
    evaluations = session.exec(select(EvaluationRow).where(*arrived("evaluation_finished", EvaluationRow)).order_by(col(EvaluationRow.id)))
    gates = session.exec(select(GateDecisionRow).where(*arrived("gate_decided", GateDecisionRow)).order_by(col(GateDecisionRow.id)))
    outcomes = session.exec(
        select(ExchangeRow.tutee, ExchangeRow.step, ExchangeRow.outcome, func.count())
        .where(*arrived("exchange_recorded", ExchangeRow), col(ExchangeRow.outcome).is_not(None))
        .group_by(col(ExchangeRow.tutee), col(ExchangeRow.step), col(ExchangeRow.outcome))
        .order_by(col(ExchangeRow.step))
    )
    broken = session.exec(
        select(BreakRescueRow)
        .where(*arrived("break_rescue_measured", BreakRescueRow), col(BreakRescueRow.difficulty_low).is_(None))
        .order_by(col(BreakRescueRow.id))
    )
    return {
        "cursor": until,
        "more": until < newest,
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
