"""What the pages of pre-flights show: the panel beside the launch form, one with all that it found, and the list."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session

from app.experiments import preflights
from app.experiments.preflight_shapes import ForetoldRun, PreflightJob
from app.lifecycle.jobs import OPEN
from app.lifecycle.workers import alive
from app.records import foretold
from app.web.contexts import Cast, cast_of
from opcod.preflight.findings import Finding, Preflight, StudentFindings
from opcod.types import Evaluation, GateDecision


@dataclass(frozen=True, slots=True)
class Panel:
    """A pre-flight in brief; None before one was asked for. `notice` is what a refused request has to say, or why it waits."""

    job: PreflightJob | None = None
    notice: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def live(self) -> bool:
        """Whether there is something to wait for."""
        return self.job is not None and self.job.state in OPEN


@dataclass(frozen=True, slots=True)
class ValidationRow:
    """A student's validation scores, and what the gate makes of them."""

    student: str
    hue: int
    scores: tuple[Evaluation, ...]
    decision: GateDecision


@dataclass(frozen=True, slots=True)
class TuteeCard:
    """A student as the tutee. `outcomes`: the commonest first."""

    hue: int
    tutor_hue: int
    found: StudentFindings
    outcomes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PreflightPage:
    """The whole page; nothing but the panel before it is completed."""

    panel: Panel
    domains: tuple[str, ...] = ()
    tutored: bool = False
    """Whether the experiment has tutors at all; the baselines have none."""
    rows: tuple[ValidationRow, ...] = ()
    tutees: tuple[TuteeCard, ...] = ()
    runs: tuple[ForetoldRun, ...] = ()


@dataclass(frozen=True, slots=True)
class PreflightsList:
    """The list, newest first."""

    preflights: tuple[PreflightJob, ...]
    before: int | None
    next_before: str | None


def panel_of(session: Session, preflight_id: int) -> Panel:
    """How far it is, and what it means.

    Raises:
        NotFound
    """
    job = preflights.read(session, preflight_id)
    notice = "No worker is connected: it waits for one." if job.state == "queued" and not alive(session) else ""
    return Panel(job, notice, tuple(job.found.findings) if job.found else ())


def page_of(session: Session, preflight_id: int) -> PreflightPage:
    """Everything that it found.

    Raises:
        NotFound
    """
    panel = panel_of(session, preflight_id)
    found = panel.job.found if panel.job else None
    if found is None:
        return PreflightPage(panel)
    cast = cast_of(preflights.settings(session, preflight_id))
    return PreflightPage(
        panel,
        domains=cast.domains,
        tutored=any(one.tutor for one in found.students),
        rows=_rows(found, cast),
        tutees=tuple(_tutee(one, cast) for one in found.students),
        runs=tuple(foretold.runs_of(session, preflight_id)),
    )


def preflights_list(session: Session, *, before: int | None) -> PreflightsList:
    """A page of the list."""
    found = preflights.listing(session, before=before)
    return PreflightsList(tuple(found.items), before, found.next_cursor)


def _rows(found: Preflight, cast: Cast) -> tuple[ValidationRow, ...]:
    return tuple(
        ValidationRow(one.tutor, cast.hue(one.tutor), tuple(score for score in found.evaluations if score.student == one.tutor), one)
        for one in found.decisions
    )


def _tutee(one: StudentFindings, cast: Cast) -> TuteeCard:
    outcomes = sorted(one.outcomes.items(), key=lambda pair: -pair[1])
    return TuteeCard(cast.hue(one.tutee), cast.hue(one.tutor), one, tuple(outcomes))
