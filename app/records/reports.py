"""A run in one document, with the scores of other runs beside its own where asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import func
from sqlmodel import Session, col, select

from app import shapes
from app.errors import NotFound
from app.experiments.remembered import experiments
from app.records import queries
from app.records.configurations import differences, flat_differences
from app.records.paper_figures import reference
from app.records.run_numbers import tell
from app.records.run_summaries import Measured, recorded
from app.records.tallies import OUTCOMES
from app.tables import MetricRow, PhaseRow, StepTallyRow
from opcod.config import load_preset, preset_names

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
    beside = [other for other in dict.fromkeys(compare) if other != run_id]
    known = {other.id: other for other in queries.run_summaries(session, beside)}
    if missing := [other for other in beside if other not in known]:
        raise NotFound("run", missing[0])
    others = [known[other] for other in beside]
    experiment = queries.experiment(session, run.experiment_id)
    gates = queries.gate_decisions(session, run_id, limit=EVERYTHING).items
    breaks = queries.break_rescues(session, run_id, limit=EVERYTHING).items
    by_round = _outcomes_by_round(session, run_id)
    return shapes.Report(
        run=run,
        table=table(session, run, others),
        preset=experiment.preset,
        config=experiment.config,
        changed=_changed(experiment),
        evaluations=queries.evaluations(session, run_id, limit=EVERYTHING).items,
        gate_decisions=gates,
        break_rescue=breaks,
        difficulty=_by_difficulty(breaks, gates),
        outcomes=_total(by_round),
        outcomes_by_round=by_round,
        step_time=_step_time(session, run),
        reference=reference(experiment.preset, {student.name: student.native_domain for student in run.students}, run.domains),
        history=queries.transitions(session, run_id, limit=EVERYTHING).items,
    )


def table(session: Session, run: shapes.Run, others: Sequence[shapes.Run]) -> shapes.ReportTable:
    """Initial scores of `run`, and the newest of it and of the others, on the split that it has newest scores of."""
    runs = [run, *others]
    known = recorded(session, runs)
    found = {run_id: one.evaluations for run_id, one in known.items()}
    split: Split = "test" if any(score.split == "test" and score.round > 0 for score in found[run.id]) else "validation"
    made_from = experiments(session, (one.experiment_id for one in runs))
    config = made_from[run.experiment_id].config
    pairs = dict.fromkeys((student.name, domain) for one in runs for student in one.students for domain in one.domains)
    native = {(one["name"], one.get("native_domain")) for one in config["students"]}
    scores = []
    for student, domain in pairs:
        mine = [score for score in found[run.id] if _fits(score, student, domain, split)]
        newest = [[score for score in found[one.id] if _fits(score, student, domain, split) and score.round > 0] for one in runs]
        any_one = next((score for part in (mine, *newest) for score in part), None)
        scores.append(
            shapes.ReportScore(
                student=student,
                domain=domain,
                native=(student, domain) in native,
                majority_baseline=any_one.majority_baseline if any_one else None,
                initial=next((score.interval for score in mine if score.round == 0), None),
                latest=[part[-1].interval if part else None for part in newest],
            )
        )
    told = tell(session, runs)
    here = made_from[run.experiment_id].flat
    columns = [_column(one, told[one.id].wall_seconds, here, made_from[one.experiment_id].flat) for one in runs]
    return shapes.ReportTable(split=split, runs=columns, scores=scores)


def _changed(experiment: shapes.Experiment) -> list[shapes.SettingDifference]:
    """What the experiment has otherwise than its preset."""
    if experiment.preset not in preset_names():
        return []
    found = differences(experiment.config, load_preset(experiment.preset or ""))
    return [shapes.SettingDifference(setting=path, here=mine, there=theirs) for path, mine, theirs in found if path not in LEFT_OUT]


def _outcomes_by_round(session: Session, run_id: int) -> list[shapes.RoundOutcomes]:
    row: Any = StepTallyRow
    sums = select(row.round, *(func.sum(getattr(row, name)) for name in OUTCOMES)).where(row.run_id == run_id)
    rounds = session.exec(sums.group_by(row.round).order_by(row.round)).all()
    told = [(number, {name: int(count) for name, count in zip(OUTCOMES, counts, strict=True) if count}) for number, *counts in rounds]
    return [shapes.RoundOutcomes(round=number, outcomes=outcomes) for number, outcomes in told if outcomes]


def _total(rounds: Sequence[shapes.RoundOutcomes]) -> dict[str, int]:
    total: defaultdict[str, int] = defaultdict(int)
    for one in rounds:
        for outcome, count in one.outcomes.items():
            total[outcome] += count
    return dict(total)


def _by_difficulty(breaks: Sequence[shapes.BreakRescueShape], gates: Sequence[shapes.GateDecisionShape]) -> list[shapes.ReportDifficulty]:
    """Counts of all rounds, tutees and tutors summed up: of all tutors, of cognizant ones and of the others, where both occur."""
    cognizant = {(gate.round, gate.tutor): gate.cognizant for gate in gates}
    sums: dict[tuple[bool | None, tuple[int, int] | None], list[int]] = {}
    for one in breaks:
        counts = (one.correct_before, one.broken, one.wrong_before, one.rescued)
        for whose in {None, cognizant.get((one.round, one.tutor))}:
            total = sums.setdefault((whose, one.difficulty), [0, 0, 0, 0])
            total[:] = (before + count for before, count in zip(total, counts, strict=True))
    both = {whose for whose, _ in sums} >= {True, False}
    found = []
    for (whose, difficulty), (right, broken, wrong, rescued) in sorted(sums.items(), key=_order):
        if whose is None or both:
            found.append(
                shapes.ReportDifficulty(
                    difficulty=difficulty,
                    cognizant=whose,
                    correct_before=right,
                    broken=broken,
                    break_rate=broken / right if right else None,
                    wrong_before=wrong,
                    rescued=rescued,
                    rescue_rate=rescued / wrong if wrong else None,
                )
            )
    return found


def _order(item: tuple[tuple[bool | None, tuple[int, int] | None], object]) -> tuple[int, tuple[int, int]]:
    """All tutors, then cognizant ones, then the others; all difficulties, then from easy to hard."""
    whose, difficulty = item[0]
    return {None: 0, True: 1, False: 2}[whose], difficulty or (-1, -1)


def _step_time(session: Session, run: shapes.Run) -> shapes.ReportStepTime:
    """Mean seconds of a step: in all phases, in those with a tutor, and in those without."""
    names = {f"{student.name}/timing_s/step": student.name for student in run.students}
    rows = select(MetricRow.name, MetricRow.round, func.sum(MetricRow.value), func.count())
    rows = rows.where(col(MetricRow.run_id) == run.id, col(MetricRow.name).in_(list(names)))
    phases = session.exec(select(PhaseRow.round, PhaseRow.tutee, PhaseRow.tutors).where(col(PhaseRow.run_id) == run.id)).all()
    tutored = {(number, tutee): bool(tutors) for number, tutee, tutors in phases}
    sums: defaultdict[bool, list[float]] = defaultdict(lambda: [0.0, 0])
    for name, number, seconds, steps in session.exec(rows.group_by(col(MetricRow.name), col(MetricRow.round))).all():
        total = sums[tutored.get((number, names[name]), False)]
        total[0] += seconds
        total[1] += steps
    parts = {kind: shapes.StepTime(seconds=seconds / steps, steps=int(steps)) for kind, (seconds, steps) in sums.items() if steps}
    whole = sum(part.steps for part in parts.values())
    mean = sum(part.seconds * part.steps for part in parts.values()) / whole if whole else 0.0
    return shapes.ReportStepTime(
        all_steps=shapes.StepTime(seconds=mean, steps=whole) if whole else None,
        with_feedback=parts.get(True),
        without_feedback=parts.get(False),
    )


def _column(run: shapes.Run, wall_seconds: float | None, here: Mapping[str, Any], there: Mapping[str, Any]) -> shapes.ReportRun:
    found = flat_differences(here, there)
    return shapes.ReportRun(
        run_id=run.id,
        name=run.name,
        algorithm=run.algorithm,
        status=run.status,
        mutual_improvement=run.verdict.mutual_improvement,
        wall_seconds=wall_seconds,
        differences=[
            shapes.SettingDifference(setting=path, here=mine, there=theirs) for path, mine, theirs in found if path not in LEFT_OUT
        ],
    )


def _fits(score: Measured, student: str, domain: str, split: Split) -> bool:
    return (score.student, score.domain, score.split) == (student, domain, split)
