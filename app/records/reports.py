"""A run in one document, with the scores of other runs beside its own where asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlmodel import Session, col, select

from app import shapes
from app.db import now
from app.records import queries
from app.tables import AttemptRow, EvaluationRow, ExperimentRow
from opcod.config import differences, parse_config

EVERYTHING = 100_000
MOST_COMPARED = 20
LEFT_OUT = ("name",)
"""Settings whose difference means nothing."""
Split = Literal["test", "validation"]


def report(session: Session, run_id: int, *, compare: Sequence[int] = ()) -> shapes.Report:
    """The report of a run as far as it has come.

    Raises:
        NotFound: the run, or one of those to compare it with, is not there.
    """
    run = queries.run(session, run_id)
    others = [queries.run(session, other) for other in dict.fromkeys(compare) if other != run_id]
    return shapes.Report(
        run=run,
        table=table(session, run, others),
        config=queries.experiment(session, run.experiment_id).config,
        evaluations=queries.evaluations(session, run_id, limit=EVERYTHING).items,
        gate_decisions=queries.gate_decisions(session, run_id, limit=EVERYTHING).items,
        break_rescue=queries.break_rescues(session, run_id, limit=EVERYTHING).items,
        outcomes=queries.outcomes(session, run_id),
        history=queries.transitions(session, run_id, limit=EVERYTHING).items,
    )


def table(session: Session, run: shapes.Run, others: Sequence[shapes.Run]) -> shapes.ReportTable:
    """Initial scores of `run`, and the newest of it and of the others, on the split that it has newest scores of."""
    runs = [run, *others]
    found = {one.id: _evaluations(session, one.id) for one in runs}
    split: Split = "test" if any(score.split == "test" and score.round > 0 for score in found[run.id]) else "validation"
    configs = {one.id: _config(session, one.experiment_id) for one in runs}
    pairs = dict.fromkeys(
        (student["name"], domain["name"])
        for one in runs
        for student in configs[one.id]["students"]
        for domain in configs[one.id]["domains"]
    )
    native = {(one["name"], one.get("native_domain")) for one in configs[run.id]["students"]}
    scores = []
    for student, domain in pairs:
        mine = [score for score in found[run.id] if _fits(score, student, domain, split)]
        newest = [[score for score in found[one.id] if _fits(score, student, domain, split) and score.round > 0] for one in runs]
        any_one = next((score for part in (mine, *newest) for score in part), None)
        initial = next((score for score in mine if score.round == 0), None)
        scores.append(
            shapes.ReportScore(
                student=student,
                domain=domain,
                native=(student, domain) in native,
                majority_baseline=any_one.majority_baseline if any_one else None,
                initial=_interval(initial),
                latest=[_interval(part[-1] if part else None) for part in newest],
            )
        )
    columns = [_column(session, one, configs[run.id], configs[one.id]) for one in runs]
    return shapes.ReportTable(split=split, runs=columns, scores=scores)


def _column(session: Session, run: shapes.Run, here: dict[str, Any], there: dict[str, Any]) -> shapes.ReportRun:
    found = differences(parse_config(here), parse_config(there))
    return shapes.ReportRun(
        run_id=run.id,
        name=run.name,
        algorithm=run.algorithm,
        status=run.status,
        mutual_improvement=run.verdict.mutual_improvement,
        wall_seconds=_wall_seconds(session, run.id),
        differences=[
            shapes.SettingDifference(setting=path, here=mine, there=theirs) for path, mine, theirs in found if path not in LEFT_OUT
        ],
    )


def _evaluations(session: Session, run_id: int) -> Sequence[EvaluationRow]:
    rows = select(EvaluationRow).where(col(EvaluationRow.run_id) == run_id).order_by(col(EvaluationRow.round), col(EvaluationRow.id))
    return session.exec(rows).all()


def _fits(score: EvaluationRow, student: str, domain: str, split: Split) -> bool:
    return (score.student, score.domain, score.split) == (student, domain, split)


def _config(session: Session, experiment_id: int) -> dict[str, Any]:
    return session.get_one(ExperimentRow, experiment_id).config


def _interval(score: EvaluationRow | None) -> shapes.Interval | None:
    return shapes.Interval.model_validate(score) if score else None


def _wall_seconds(session: Session, run_id: int) -> float | None:
    attempts = session.exec(select(AttemptRow).where(col(AttemptRow.run_id) == run_id)).all()
    if not attempts:
        return None
    return sum(((attempt.ended_at or now()) - attempt.started_at).total_seconds() for attempt in attempts)
