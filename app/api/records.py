"""What a run left behind: metrics, evaluations, gate decisions, checkpoints, log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import CurrentEngine, CurrentStore, Cursor, Reader, RunId
from app.api.downloads import download, downloads
from app.artefacts import logs
from app.db import reading
from app.experiments import estimates
from app.records import exports, queries

router = APIRouter(tags=["records"], route_class=ConditionalRoute)

Names = Annotated[list[str] | None, Query(description="Only these; `student1/*` stands for all that begin so. Repeat it for more.")]
After = Annotated[str | None, Query(description="Arrival number of the last point that you have; `cursor` says the same.")]
Many = Annotated[int, Query(description="Items a page.", ge=1, le=10_000)]


@router.get("/runs/{run_id}/metrics", **POLLED)
def metrics(
    run_id: RunId,
    session: Reader,
    name: Names = None,
    after: After = None,
    cursor: Cursor = None,
    limit: Many = 1000,
) -> shapes.Listing[shapes.MetricPoint]:
    """Points in order of arrival. To follow a run, ask again after the last point's `id`: nothing is missed and nothing sent twice."""
    queries.run_row(session, run_id)
    return queries.metrics(session, run_id, names=name or (), after=queries.cursor(after or cursor), limit=limit)


@router.get("/runs/{run_id}/metrics/export", response_class=StreamingResponse, responses=downloads("jsonl", "parquet", "csv"))
def export_metrics(
    run_id: RunId,
    engine: CurrentEngine,
    name: Names = None,
    format: Annotated[exports.Format, Query(description="JSON lines, Parquet, or CSV that a spreadsheet may open.")] = "jsonl",
) -> StreamingResponse:
    """Every point as one file. A run that is under way is told as far as it is now."""
    with reading(engine) as session:
        queries.run_row(session, run_id)
    return download(exports.metrics(engine, run_id, name or ()), format, exports.METRIC_FIELDS, f"run-{run_id}-metrics")


@router.get("/runs/{run_id}/estimate", **POLLED)
def estimate(run_id: RunId, session: Reader) -> shapes.RunEstimate:
    """What the run was expected to take when it was launched, and what it took."""
    return estimates.of_run(session, queries.run_row(session, run_id))


@router.get("/runs/{run_id}/metric-names", **POLLED)
def metric_names(run_id: RunId, session: Reader) -> shapes.Listing[str]:
    """The names of every curve that the run has."""
    queries.run_row(session, run_id)
    return shapes.Listing(items=queries.metric_names(session, run_id))


@router.get("/runs/{run_id}/evaluations", **POLLED)
def evaluations(run_id: RunId, session: Reader, cursor: Cursor = None, limit: Many = 1000) -> shapes.Listing[shapes.EvaluationShape]:
    """Evaluations in order of arrival."""
    queries.run_row(session, run_id)
    return queries.evaluations(session, run_id, after=queries.cursor(cursor), limit=limit)


@router.get("/runs/{run_id}/gate-decisions", **POLLED)
def gate_decisions(run_id: RunId, session: Reader, cursor: Cursor = None, limit: Many = 1000) -> shapes.Listing[shapes.GateDecisionShape]:
    """Who could tutor in each round, and why."""
    queries.run_row(session, run_id)
    return queries.gate_decisions(session, run_id, after=queries.cursor(cursor), limit=limit)


@router.get("/runs/{run_id}/break-rescue")
def break_rescue(run_id: RunId, session: Reader, cursor: Cursor = None, limit: Many = 1000) -> shapes.Listing[shapes.BreakRescueShape]:
    """How feedback changed answers, overall and by difficulty."""
    queries.run_row(session, run_id)
    return queries.break_rescues(session, run_id, after=queries.cursor(cursor), limit=limit)


@router.get("/runs/{run_id}/checkpoints")
def checkpoints(run_id: RunId, session: Reader, cursor: Cursor = None, limit: Many = 1000) -> shapes.Listing[shapes.CheckpointShape]:
    """Checkpoints that were saved; the run keeps the newest few."""
    queries.run_row(session, run_id)
    return queries.checkpoints(session, run_id, after=queries.cursor(cursor), limit=limit)


@router.get("/runs/{run_id}/logs")
def log(
    run_id: RunId,
    session: Reader,
    store: CurrentStore,
    after: Annotated[int | None, Query(description="Byte to read from; empty: the log's last part.", ge=0, le=2**62)] = None,
    limit: Annotated[int, Query(description="Most bytes.", ge=1, le=1_000_000)] = 65_536,
) -> shapes.LogPart:
    """A part of the run's log."""
    return logs.read(store, queries.run_row(session, run_id).folder, after=after, limit=limit)
