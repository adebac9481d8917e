"""What changes on a run's page when a round, a phase or an evaluation ends: plane, timeline, scores and verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from app.tables import EvaluationRow, GateDecisionRow, PhaseRow, RoundRow, RunRow
from app.web.break_rescue import BreakRescueTables, break_rescue
from app.web.contexts import LIVE, Cast, Verdict, as_evaluation, make_verdict
from app.web.pareto_plane import Plane, planes
from opcod.types import Evaluation


@dataclass(frozen=True, slots=True)
class GateLine:
    """A student's validation in a round and what the gate made of it."""

    student: str
    hue: int
    scores: tuple[tuple[str, float], ...]
    gap: float
    threshold: float
    cognizant: bool
    domains: tuple[str, ...]
    everywhere: bool
    meter: float
    """The gap's length on a scale of 0 to 100 that all of the run's gaps and thresholds fit."""
    mark: float
    """The threshold's place on it."""


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """Who was taught by whom."""

    tutee: str
    hue: int
    tutors: tuple[tuple[str, int], ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class TimelineRound:
    """One round."""

    round: int
    started_at: datetime
    gates: tuple[GateLine, ...]
    phases: tuple[PhaseLine, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One student on one domain: before, after, and what always giving the most frequent answer would score."""

    domain: str
    native: bool
    initial: Score | None
    final: Score | None
    change: float | None
    majority: float | None
    questions: int | None
    samples: int | None


@dataclass(frozen=True, slots=True)
class ScoreBlock:
    """One student's rows and verdict."""

    student: str
    hue: int
    improved: bool | None
    rows: tuple[ScoreRow, ...]


@dataclass(frozen=True, slots=True)
class RunResults:
    """All that changes when a round or an evaluation ends."""

    id: int
    live: bool
    verdict: Verdict
    planes: tuple[Plane, ...]
    timeline: tuple[TimelineRound, ...]
    break_rescue: BreakRescueTables | None
    scores: tuple[ScoreBlock, ...]
    final: bool
    """The scores' last column is the test after training, not the latest validation."""


def run_results(session: Session, run: RunRow, cast: Cast) -> RunResults:
    """Everything that the run's rounds have shown so far."""
    evaluations = [
        as_evaluation(row)
        for row in session.exec(select(EvaluationRow).where(col(EvaluationRow.run_id) == run.id).order_by(col(EvaluationRow.seq))).all()
    ]
    verdict = make_verdict(run, cast)
    final = any(item.split == "test" and item.round > 0 for item in evaluations)
    return RunResults(
        id=run.id or 0,
        live=run.status in LIVE,
        verdict=verdict,
        planes=planes(evaluations, cast.students, cast.domains),
        timeline=_timeline(session, run, cast, evaluations),
        break_rescue=break_rescue(session, run, cast),
        scores=_scores(cast, evaluations, verdict, "test" if final else "validation"),
        final=final,
    )


def _timeline(session: Session, run: RunRow, cast: Cast, evaluations: Sequence[Evaluation]) -> tuple[TimelineRound, ...]:
    gates: defaultdict[int, list[GateLine]] = defaultdict(list)
    rows = select(GateDecisionRow).where(col(GateDecisionRow.run_id) == run.id).order_by(col(GateDecisionRow.seq))
    decisions = session.exec(rows).all()
    longest = 1.15 * max((value for gate in decisions for value in (gate.gap, gate.threshold)), default=0.0) or 1.0
    by_key: defaultdict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for item in evaluations:
        if item.split == "validation":
            by_key[item.student, item.round][item.domain] = item.score
    for gate in decisions:
        scores = by_key[gate.tutor, gate.round - 1]  # those that this decision read
        known = tuple((domain, scores[domain]) for domain in cast.domains if domain in scores)
        everywhere = set(gate.domains) >= set(cast.domains)
        place = (round(100 * gate.gap / longest, 2), round(100 * gate.threshold / longest, 2))
        line = GateLine(
            gate.tutor, cast.hue(gate.tutor), known, gate.gap, gate.threshold, gate.cognizant, tuple(gate.domains), everywhere, *place
        )
        gates[gate.round].append(line)
    phases: defaultdict[int, list[PhaseLine]] = defaultdict(list)
    for phase in session.exec(select(PhaseRow).where(col(PhaseRow.run_id) == run.id).order_by(col(PhaseRow.seq))).all():
        finished = phase.finished_at is not None
        phases[phase.round].append(PhaseLine(phase.tutee, cast.hue(phase.tutee), cast.hued(phase.tutors), finished))
    rounds = session.exec(select(RoundRow).where(col(RoundRow.run_id) == run.id).order_by(col(RoundRow.round))).all()
    return tuple(TimelineRound(row.round, row.started_at, tuple(gates[row.round]), tuple(phases[row.round])) for row in rounds)


def _scores(cast: Cast, evaluations: Sequence[Evaluation], verdict: Verdict, split: str) -> tuple[ScoreBlock, ...]:
    improved = {name: value for name, _, value in verdict.students}
    blocks = []
    for student in cast.students:
        rows = []
        for domain in cast.domains:
            mine = [item for item in evaluations if (item.student, item.domain, item.split) == (student, domain, split)]
            initial = next((item for item in mine if item.round == 0), None)
            latest = max((item for item in mine if item.round > 0), key=lambda item: item.round, default=None)
            known = latest or initial
            rows.append(
                ScoreRow(
                    domain=domain,
                    native=cast.native[student] == domain,
                    initial=_score(initial),
                    final=_score(latest),
                    change=latest.score - initial.score if latest and initial else None,
                    majority=known.majority_baseline if known else None,
                    questions=known.questions if known else None,
                    samples=known.samples if known else None,
                )
            )
        if any(row.initial or row.final for row in rows):
            blocks.append(ScoreBlock(student, cast.hue(student), improved[student], tuple(rows)))
    return tuple(blocks)


def _score(item: Evaluation | None) -> Score | None:
    return Score(item.score, item.low, item.high) if item else None
