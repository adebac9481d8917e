"""What changes on a run's page when a round, a phase or an evaluation ends: plane, timeline, scores and verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from app.tables import BreakRescueRow, EvaluationRow, GateDecisionRow, PhaseRow, RoundRow, RunRow
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
class BreakRescueLine:
    """How a tutor's feedback changed a tutee's answers in a round, over all difficulties."""

    round: int
    tutee: str
    tutee_hue: int
    tutor: str
    tutor_hue: int
    broken: int
    correct_before: int
    rescued: int
    wrong_before: int

    @property
    def break_rate(self) -> float | None:
        return self.broken / self.correct_before if self.correct_before else None

    @property
    def rescue_rate(self) -> float | None:
        return self.rescued / self.wrong_before if self.wrong_before else None


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
    break_rescue: tuple[BreakRescueLine, ...]
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
        break_rescue=_break_rescue(session, run, cast),
        scores=_scores(cast, evaluations, verdict, "test" if final else "validation"),
        final=final,
    )


def _timeline(session: Session, run: RunRow, cast: Cast, evaluations: Sequence[Evaluation]) -> tuple[TimelineRound, ...]:
    gates: defaultdict[int, list[GateLine]] = defaultdict(list)
    decisions = select(GateDecisionRow).where(col(GateDecisionRow.run_id) == run.id).order_by(col(GateDecisionRow.seq))
    for gate in session.exec(decisions).all():
        # The scores that this decision read are those of the validation before its round.
        scores = {
            item.domain: item.score
            for item in evaluations
            if (item.student, item.split, item.round) == (gate.tutor, "validation", gate.round - 1)
        }
        known = tuple((domain, scores[domain]) for domain in cast.domains if domain in scores)
        everywhere = set(gate.domains) >= set(cast.domains)
        hue = cast.hue(gate.tutor)
        gates[gate.round].append(
            GateLine(gate.tutor, hue, known, gate.gap, gate.threshold, gate.cognizant, tuple(gate.domains), everywhere)
        )
    phases: defaultdict[int, list[PhaseLine]] = defaultdict(list)
    for phase in session.exec(select(PhaseRow).where(col(PhaseRow.run_id) == run.id).order_by(col(PhaseRow.seq))).all():
        finished = phase.finished_at is not None
        phases[phase.round].append(PhaseLine(phase.tutee, cast.hue(phase.tutee), cast.hued(phase.tutors), finished))
    rounds = session.exec(select(RoundRow).where(col(RoundRow.run_id) == run.id).order_by(col(RoundRow.round))).all()
    return tuple(TimelineRound(row.round, row.started_at, tuple(gates[row.round]), tuple(phases[row.round])) for row in rounds)


def _break_rescue(session: Session, run: RunRow, cast: Cast) -> tuple[BreakRescueLine, ...]:
    overall = select(BreakRescueRow).where(col(BreakRescueRow.run_id) == run.id, col(BreakRescueRow.difficulty_low).is_(None))
    return tuple(
        BreakRescueLine(
            row.round,
            row.tutee,
            cast.hue(row.tutee),
            row.tutor,
            cast.hue(row.tutor),
            row.broken,
            row.correct_before,
            row.rescued,
            row.wrong_before,
        )
        for row in session.exec(overall.order_by(col(BreakRescueRow.seq))).all()
    )


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
