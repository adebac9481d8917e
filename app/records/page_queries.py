"""What the runs list and a run's page show: the shapes that REST answers with, and what only a page needs besides.

One function makes one context; the whole page and its live fragments call the same function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import get_args

from sqlmodel import Session, col, select

from app import shapes
from app.artefacts.usage import usage
from app.errors import Conflict
from app.experiments.remembered import experiments
from app.lifecycle.runs import ENDED
from app.lifecycle.statuses import RunStatus
from app.records import notices, queries
from app.records.alerts import alerts
from app.records.chart_shapes import Alert, AlertKind
from app.records.run_summaries import Gate, recorded
from app.tables import RunRow
from app.web.contexts import LIVE, Cast, Verdict, cast_of, hue_of
from app.web.results import RunResults, run_results

PAGE = 50
STANDING = 3
"""Notices that a run's head shows."""


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """A student's score on a domain, and its change since the start on the same split."""

    domain: str
    score: float | None
    change: float | None


@dataclass(frozen=True, slots=True)
class StudentLine:
    """A student in a list: its scores, and whether its gate is open (None: not decided yet)."""

    name: str
    hue: int
    model: str
    cells: tuple[ScoreCell, ...]
    gap: float | None
    gate_open: bool | None


@dataclass(frozen=True, slots=True)
class RunLine:
    """One row of the runs list."""

    run: shapes.Run
    students: tuple[StudentLine, ...]
    phase_hue: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RunsFilter:
    """What the address of the runs page asks for; `before` pages to older runs."""

    status: str = ""
    search: str = ""
    tag: str = ""
    owner: str = ""
    archived: bool = False
    before: int | None = None

    def address(self, before: str | int | None) -> dict[str, str]:
        """The query that asks for this list from another place."""
        archived = "1" if self.archived else ""
        named = {"status": self.status, "q": self.search, "tag": self.tag, "owner": self.owner, "archived": archived}
        return {name: value for name, value in (named | {"before": str(before or "")}).items() if value}

    @property
    def narrows(self) -> bool:
        """Whether any filter is set."""
        return bool(self.address(None))


EVERYTHING = RunsFilter()


@dataclass(frozen=True, slots=True)
class RunsList:
    """The runs page, and its live table. `any_runs` tells an empty filter from an empty studio."""

    lines: tuple[RunLine, ...]
    chosen: RunsFilter
    statuses: tuple[str, ...]
    owners: tuple[str, ...]
    any_runs: bool
    next_before: str | None
    storage: str | None
    """What to say of the disk budget, where there is need to."""
    cursor: int
    """Place in the live stream that the list already shows."""


@dataclass(frozen=True, slots=True)
class RunHead:
    """A run's head: status, progress, what may be done, what went wrong."""

    run: shapes.Run
    preset: str | None
    live: bool
    students: tuple[StudentLine, ...]
    phase_hue: int
    verdict: Verdict
    can_pause: bool
    can_stop: bool
    can_resume: bool
    can_retry: bool
    cause: str
    changed_at: datetime
    standing: tuple[shapes.NoticeShape, ...]
    """What happened besides training, and still is so; newest first."""
    alerts: tuple[tuple[AlertKind, tuple[Alert, ...]], ...]
    """Signs that training goes wrong, by kind, besides the error that ended it."""
    notice: str
    """What a refused request has to say."""


@dataclass(frozen=True, slots=True)
class RunHistory:
    """Every change of a run's status, newest first."""

    run_id: int
    steps: tuple[shapes.Transition, ...]


@dataclass(frozen=True, slots=True)
class RunFiling:
    """What may be changed of a run at any time: how it is called, filed and ranked."""

    run: shapes.Run
    tags: str
    saved: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """The whole page of a run. `cursor` is the place in its live stream that the page already shows."""

    head: RunHead
    results: RunResults
    history: RunHistory
    filing: RunFiling
    cursor: int


def runs_list(session: Session, chosen: RunsFilter = EVERYTHING) -> RunsList:
    """The newest runs that the filter leaves."""
    cursor = queries.newest_arrival(session)
    statuses = get_args(RunStatus)
    chosen = replace(chosen, status=chosen.status if chosen.status in statuses else "")
    listing = queries.run_list(
        session,
        statuses=[chosen.status] if chosen.status else [],
        search=chosen.search,
        tags=[chosen.tag] if chosen.tag else [],
        owner=chosen.owner or None,
        archived=chosen.archived,
        before=chosen.before,
        limit=PAGE,
    )
    lines = tuple(run_lines(session, listing.items))
    any_runs = bool(lines) or session.exec(select(col(RunRow.id)).limit(1)).first() is not None
    owners = tuple(session.exec(select(RunRow.owner).distinct().order_by(col(RunRow.owner))).all())
    return RunsList(lines, chosen, statuses, owners, any_runs, listing.next_cursor, usage(session).message, cursor)


def run_lines(session: Session, runs: Sequence[shapes.Run]) -> list[RunLine]:
    """Runs as lines of a list."""
    known = recorded(session, runs)
    return [_line(run, known[run.id].gates) for run in runs]


def run_page(session: Session, run_id: int) -> RunPage:
    """Everything on a run's page.

    Raises:
        NotFound
    """
    run = queries.run_row(session, run_id)  # held to the end: a session asks again for what nobody holds
    cursor = queries.last_arrival(session, run_id)  # before the rest: what comes in between is asked for again, never left out
    results = run_results(session, run, get_cast(session, run_id))
    return RunPage(run_head(session, run_id), results, run_history(session, run_id), run_filing(session, run_id), cursor)


def run_history(session: Session, run_id: int) -> RunHistory:
    """The newest changes of the run's status."""
    return RunHistory(run_id, tuple(queries.transitions(session, run_id, newest_first=True, limit=100).items))


def run_filing(session: Session, run_id: int, *, saved: bool = False, fault: str = "") -> RunFiling:
    """Name, tags, priority and whether it is archived.

    Raises:
        NotFound
    """
    run = queries.run(session, run_id)
    return RunFiling(run, ", ".join(run.tags), saved, fault)


def run_head(session: Session, run_id: int, *, refused: Conflict | None = None) -> RunHead:
    """The page's head; `refused` is a request that the run's status did not allow.

    Raises:
        NotFound
    """
    run = queries.run(session, run_id)
    line = run_lines(session, [run])[0]
    latest = queries.transitions(session, run_id, newest_first=True, limit=1).items[0]
    return RunHead(
        run=run,
        preset=experiments(session, [run.experiment_id])[run.experiment_id].preset,
        live=run.status in LIVE,
        students=line.students,
        phase_hue=line.phase_hue,
        verdict=line.verdict,
        can_pause=run.status in ("queued", "starting", "running"),
        can_stop=run.status in ("queued", "starting", "running", "pausing", "paused"),
        can_resume=run.status in ("paused", "stopped", "failed"),
        can_retry=run.status in ENDED,
        cause=latest.cause,
        changed_at=latest.at,
        standing=tuple(shapes.NoticeShape.model_validate(row) for row in notices.of_run(session, run_id, standing_only=True)[:STANDING]),
        alerts=_alerts(session, run_id),
        notice=str(refused) if refused else "",
    )


def _alerts(session: Session, run_id: int) -> tuple[tuple[AlertKind, tuple[Alert, ...]], ...]:
    found = [alert for alert in alerts(session, queries.run_row(session, run_id)) if alert.kind != "loss_not_finite"]
    return tuple((kind, tuple(group)) for kind, group in groupby(found, key=lambda alert: alert.kind))


def results_of(session: Session, run_id: int) -> RunResults:
    """The part of a run's page that changes with each round.

    Raises:
        NotFound
    """
    return run_results(session, queries.run_row(session, run_id), get_cast(session, run_id))


def get_cast(session: Session, run_id: int) -> Cast:
    """Who takes part in a run.

    Raises:
        NotFound
    """
    experiment_id = queries.run_row(session, run_id).experiment_id
    return cast_of(experiments(session, [experiment_id])[experiment_id].config)


def _line(run: shapes.Run, gates: Mapping[str, Gate]) -> RunLine:
    names = [student.name for student in run.students]
    hues = {name: hue_of(name, names) for name in names}
    students = []
    for student in run.students:
        scores = student.scores
        # Test against test once both are there, validation against validation until then: never one against the other.
        first, last = (scores.initial, scores.final) if scores.final else (scores.validation.initial, scores.validation.latest)
        again = first != last  # the very same scores: there was no second measurement yet
        cells = tuple(
            ScoreCell(domain, last.get(domain), last[domain] - first[domain] if again and domain in last and domain in first else None)
            for domain in run.domains
        )
        gate = gates.get(student.name)
        students.append(StudentLine(student.name, hues[student.name], student.model, cells, student.gap, gate.open if gate else None))
    verdict = Verdict(run.verdict.mutual_improvement, tuple((name, hue, run.verdict.students.get(name)) for name, hue in hues.items()))
    return RunLine(run, tuple(students), hues.get(run.progress.phase or "", 0), verdict)
