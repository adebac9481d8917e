"""Runs: list, read, stop, resume."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app import launching, queries, shapes
from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Cursor, Limit, Order, Reader, RunId
from app.db import reading
from app.statuses import RunStatus

router = APIRouter(tags=["runs"])


@router.get("/runs")
def run_list(
    session: Reader,
    status: Annotated[list[RunStatus] | None, Query(description="Only these; repeat it for more.")] = None,
    experiment: Annotated[int | None, Query(description="Only runs of this experiment.", ge=1)] = None,
    search: Annotated[str, Query(description="Only runs whose name has this text.", max_length=200)] = "",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> shapes.Listing[shapes.Run]:
    """Runs, newest first."""
    return queries.run_list(
        session, statuses=status or (), experiment_id=experiment, search=search, before=queries.cursor(cursor), limit=limit
    )


@router.get("/runs/{run_id}")
def read(run_id: RunId, session: Reader) -> shapes.Run:
    """One run."""
    return queries.run(session, run_id)


@router.post("/runs/{run_id}:stop")
def stop(run_id: RunId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.Run:
    """Stop a run: at once while it waits, at its next checkpoint while it trains. It can be resumed."""
    launching.stop(engine, settings.broker_url, run_id, actor=person.name)
    with reading(engine) as session:
        return queries.run(session, run_id)


@router.post("/runs/{run_id}:resume")
def resume(run_id: RunId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.Run:
    """Queue a stopped or failed run again; it goes on from its last checkpoint."""
    launching.resume(engine, settings.broker_url, run_id, actor=person.name)
    with reading(engine) as session:
        return queries.run(session, run_id)


@router.get("/runs/{run_id}/transitions")
def transitions(
    run_id: RunId, session: Reader, order: Order = "oldest", cursor: Cursor = None, limit: Limit = 500
) -> shapes.Listing[shapes.Transition]:
    """Every change of the run's status."""
    queries.run_row(session, run_id)
    return queries.transitions(session, run_id, after=queries.cursor(cursor), newest_first=order == "newest", limit=limit)


@router.get("/runs/{run_id}/report")
def report(run_id: RunId, session: Reader) -> shapes.Report:
    """The run in one document."""
    run = queries.run(session, run_id)
    return shapes.Report(
        run=run,
        config=queries.experiment(session, run.experiment_id).config,
        evaluations=queries.evaluations(session, run_id, limit=100_000).items,
        gate_decisions=queries.gate_decisions(session, run_id, limit=100_000).items,
        break_rescue=queries.break_rescues(session, run_id, limit=100_000).items,
        outcomes=queries.outcomes(session, run_id),
        history=queries.transitions(session, run_id, limit=100_000).items,
    )
