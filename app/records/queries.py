"""What REST and pages read. Every function takes a session and answers with a shape of `app.shapes`.

Lists are paged by key, never by offset: the cursor is the last row's id, so that the millionth row is
as near as the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Text, func, or_, text
from sqlalchemy import cast as sql_cast
from sqlmodel import Session, SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from app import shapes
from app.errors import Fault, Invalid, NotFound
from app.lifecycle.queueing import behind, place_of, waiting
from app.records.run_summaries import summarise
from app.tables import (
    BreakRescueRow,
    CheckpointRow,
    DomainRow,
    EvaluationRow,
    EventRow,
    ExperimentRow,
    GateDecisionRow,
    MetricRow,
    RunRow,
    TransitionRow,
    UploadRow,
)

R = TypeVar("R", bound=SQLModel)
S = TypeVar("S", bound=shapes.Shape)


def cursor(text: str | None) -> int | None:
    """The id within a cursor.

    Raises:
        Invalid: it is no cursor of ours.
    """
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Invalid([Fault("cursor", f"{text[:40]!r} is no cursor.", "Give back the `next_cursor` of the page before.")])
    return int(text)


def experiment(session: Session, experiment_id: int) -> shapes.Experiment:
    """One experiment.

    Raises:
        NotFound
    """
    return shapes.Experiment.model_validate(_get(session, ExperimentRow, experiment_id, "experiment"))


def experiments(session: Session, *, before: int | None = None, limit: int = 50) -> shapes.Listing[shapes.Experiment]:
    """Experiments, newest first."""
    rows = select(ExperimentRow).order_by(col(ExperimentRow.id).desc())
    if before is not None:
        rows = rows.where(col(ExperimentRow.id) < before)
    return _page(session, rows, limit, shapes.Experiment)


def run(session: Session, run_id: int) -> shapes.Run:
    """One run.

    Raises:
        NotFound
    """
    return summarise(session, [run_row(session, run_id)])[0]


def run_row(session: Session, run_id: int) -> RunRow:
    """One run as it is stored.

    Raises:
        NotFound
    """
    row = _get(session, RunRow, run_id, "run")
    if row.deleted_at is not None:
        raise NotFound("run", run_id)
    return row


def run_list(
    session: Session,
    *,
    statuses: Sequence[str] = (),
    experiment_id: int | None = None,
    search: str = "",
    owner: str | None = None,
    tags: Sequence[str] = (),
    archived: bool | None = False,
    before: int | None = None,
    limit: int = 50,
) -> shapes.Listing[shapes.Run]:
    """Runs, newest first; with all of `tags`. `archived` None: both."""
    rows = select(RunRow).where(col(RunRow.deleted_at).is_(None)).order_by(col(RunRow.id).desc())
    if statuses:
        rows = rows.where(col(RunRow.status).in_(statuses))
    if experiment_id is not None:
        rows = rows.where(col(RunRow.experiment_id) == experiment_id)
    if search:
        rows = rows.where(col(RunRow.name).icontains(search, autoescape=True))
    if owner is not None:
        rows = rows.where(col(RunRow.owner) == owner)
    if archived is not None:
        rows = rows.where(col(RunRow.archived).is_(archived))
    for tag in tags:
        rows = rows.where(sql_cast(col(RunRow.tags), Text).contains(json.dumps(tag), autoescape=True))
    if before is not None:
        rows = rows.where(col(RunRow.id) < before)
    found = session.exec(rows.limit(limit + 1)).all()
    return shapes.Listing(items=summarise(session, found[:limit]), next_cursor=next_cursor(found, limit))


def run_summaries(session: Session, run_ids: Sequence[int]) -> list[shapes.Run]:
    """These runs, in no particular order."""
    return summarise(session, session.exec(select(RunRow).where(col(RunRow.id).in_(run_ids), col(RunRow.deleted_at).is_(None))).all())


def queue(session: Session, *, after: str | None = None, limit: int | None = None) -> shapes.Listing[shapes.Run]:
    """Waiting runs, the next one first; `after` is a place in the queue's order.

    Raises:
        Invalid: `after` is no place.
    """
    rows = waiting() if not after else waiting().where(behind(after))
    found = session.exec(rows if limit is None else rows.limit(limit + 1)).all()
    shown = found if limit is None else found[:limit]
    return shapes.Listing(items=summarise(session, shown), next_cursor=place_of(shown[-1]) if len(found) > len(shown) else None)


def transitions(
    session: Session, run_id: int, *, after: int | None = None, newest_first: bool = False, limit: int = 1000
) -> shapes.Listing[shapes.Transition]:
    """The run's history, oldest first or newest first."""
    rows = select(TransitionRow).where(col(TransitionRow.run_id) == run_id)
    rows = rows.order_by(col(TransitionRow.id).desc() if newest_first else col(TransitionRow.id))
    if after is not None:
        rows = rows.where(col(TransitionRow.id) < after if newest_first else col(TransitionRow.id) > after)
    return _page(session, rows, limit, shapes.Transition)


def metric_names(session: Session, run_id: int) -> list[str]:
    """Every curve that the run has. Each name is looked for behind the one before: the points between them are not read."""
    return [name for (name,) in session.execute(_NAMES, {"run": run_id})]


_NAMES = text(
    "WITH RECURSIVE found(name) AS (SELECT min(name) FROM metrics WHERE run_id = :run UNION ALL "
    "SELECT (SELECT min(name) FROM metrics WHERE run_id = :run AND name > found.name) FROM found WHERE found.name IS NOT NULL) "
    "SELECT name FROM found WHERE name IS NOT NULL"
)


def metrics(
    session: Session, run_id: int, *, names: Sequence[str] = (), after: int | None = None, limit: int = 1000
) -> shapes.Listing[shapes.MetricPoint]:
    """Points in order of arrival, after arrival number `after`. A name that ends in ``*`` stands for all that begin so."""
    rows = metric_rows(run_id, names)
    if after is not None:
        rows = rows.where(col(MetricRow.id) > after)
    return _page(session, rows, limit, shapes.MetricPoint)


def metric_rows(run_id: int, names: Sequence[str]) -> SelectOfScalar[MetricRow]:
    """The run's points in order of arrival, of these names."""
    return select(MetricRow).where(col(MetricRow.run_id) == run_id, *named(names)).order_by(col(MetricRow.id))


def named(names: Sequence[str], column: Any = MetricRow.name) -> list[ColumnElement[bool]]:
    """Conditions for points of these names; one that ends in ``*`` stands for all that begin so, none at all for every name."""
    exact = [name for name in names if not name.endswith("*")]
    begins = [col(column).startswith(name[:-1], autoescape=True) for name in names if name.endswith("*")]
    return [or_(col(column).in_(exact), *begins)] if names else []


def newest_arrival(session: Session) -> int:
    """The newest arrival number of all runs' live streams: what a list that is read afterwards already shows; 0 where there is none."""
    return session.exec(select(func.max(col(EventRow.id)))).one() or 0


def last_arrival(session: Session, run_id: int) -> int:
    """The newest arrival number of the run's live stream; 0 where there is none."""
    return session.exec(select(func.max(col(EventRow.id))).where(col(EventRow.run_id) == run_id)).one() or 0


def evaluations(session: Session, run_id: int, *, after: int | None = None, limit: int = 1000) -> shapes.Listing[shapes.EvaluationShape]:
    """Evaluations in order of arrival."""
    return _page(session, _of_run(EvaluationRow, run_id, after), limit, shapes.EvaluationShape)


def gate_decisions(
    session: Session, run_id: int, *, after: int | None = None, limit: int = 1000
) -> shapes.Listing[shapes.GateDecisionShape]:
    """Gate decisions in order of arrival."""
    return _page(session, _of_run(GateDecisionRow, run_id, after), limit, shapes.GateDecisionShape)


def break_rescues(session: Session, run_id: int, *, after: int | None = None, limit: int = 1000) -> shapes.Listing[shapes.BreakRescueShape]:
    """Break and rescue counts in order of arrival, rates worked out."""
    found = session.exec(_of_run(BreakRescueRow, run_id, after).limit(limit + 1)).all()
    items = [
        shapes.BreakRescueShape(
            **row.model_dump(include={"id", "round", "tutee", "tutor", "correct_before", "broken", "wrong_before", "rescued"}),
            difficulty=None if row.difficulty_low is None or row.difficulty_high is None else (row.difficulty_low, row.difficulty_high),
            break_rate=row.broken / row.correct_before if row.correct_before else None,
            rescue_rate=row.rescued / row.wrong_before if row.wrong_before else None,
        )
        for row in found[:limit]
    ]
    return shapes.Listing(items=items, next_cursor=next_cursor(found, limit))


def checkpoints(session: Session, run_id: int, *, after: int | None = None, limit: int = 1000) -> shapes.Listing[shapes.CheckpointShape]:
    """Checkpoints in order of arrival; older ones may have been deleted since."""
    return _page(session, _of_run(CheckpointRow, run_id, after), limit, shapes.CheckpointShape)


def domains(session: Session, *, before: int | None = None, limit: int = 50) -> shapes.Listing[shapes.DomainShape]:
    """Known domains, newest first."""
    rows = select(DomainRow).order_by(col(DomainRow.id).desc())
    if before is not None:
        rows = rows.where(col(DomainRow.id) < before)
    page = _page(session, rows, limit, shapes.DomainShape)
    name_uploads(session, page.items)
    return page


def name_uploads(session: Session, found: Sequence[shapes.DomainShape]) -> None:
    """Say of domains which upload they were made of, and whose that is."""
    columns = select(UploadRow.domain_id, UploadRow.id, UploadRow.owner)
    rows = session.exec(columns.where(col(UploadRow.domain_id).in_([domain.id for domain in found]))).all()
    made = {domain_id: (upload_id, owner) for domain_id, upload_id, owner in rows}
    for domain in found:
        domain.upload_id, domain.owner = made.get(domain.id, (None, None))


def domain_row(session: Session, domain_id: int) -> DomainRow:
    """One domain as it is stored.

    Raises:
        NotFound
    """
    return _get(session, DomainRow, domain_id, "domain")


def _get(session: Session, table: type[R], key: int, what: str) -> R:
    row = session.get(table, key) if 0 < key < 2**63 else None
    if row is None:
        raise NotFound(what, key)
    return row


def _page(session: Session, rows: SelectOfScalar[R], limit: int, shape: type[S]) -> shapes.Listing[S]:
    found = session.exec(rows.limit(limit + 1)).all()
    return shapes.Listing(items=[shape.model_validate(row) for row in found[:limit]], next_cursor=next_cursor(found, limit))


def next_cursor(found: Sequence[Any], limit: int) -> str | None:
    """Where a list goes on whose query asked for one row more than `limit`; None at its end."""
    return str(found[limit - 1].id) if len(found) > limit else None


def _of_run(table: type[R], run_id: int, after: int | None) -> SelectOfScalar[R]:
    columns: Any = table
    rows = select(table).where(columns.run_id == run_id).order_by(columns.id)
    return rows if after is None else rows.where(columns.id > after)
