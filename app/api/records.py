"""What a run left behind: metrics, exchanges, evaluations, gate decisions, checkpoints, log."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from app import logs, queries, shapes
from app.api.dependencies import CurrentSettings, Cursor, Limit, Order, Reader, RunId
from opcod.types import FeedbackOutcome

router = APIRouter(tags=["records"])

Names = Annotated[list[str] | None, Query(description="Only these; `student1/*` stands for all that begin so. Repeat it for more.")]
Outcomes = Annotated[list[FeedbackOutcome | Literal["none"]] | None, Query(description="Of the feedback; `none`: there was none.")]
After = Annotated[str | None, Query(description="Arrival number of the last point that you have; `cursor` says the same.")]
Many = Annotated[int, Query(description="Items a page.", ge=1, le=10_000)]


@router.get("/runs/{run_id}/metrics")
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


@router.get("/runs/{run_id}/metric-names")
def metric_names(run_id: RunId, session: Reader) -> shapes.Listing[str]:
    """The names of every curve that the run has."""
    queries.run_row(session, run_id)
    return shapes.Listing(items=queries.metric_names(session, run_id))


@router.get("/runs/{run_id}/exchanges")
def exchanges(
    run_id: RunId,
    session: Reader,
    round: Annotated[int | None, Query(ge=0)] = None,
    step: Annotated[int | None, Query(description="The tutee's update.", ge=0)] = None,
    student: Annotated[str | None, Query(description="The tutee.")] = None,
    tutee: Annotated[str | None, Query(description="The same as `student`.")] = None,
    tutor: str | None = None,
    domain: str | None = None,
    question: Annotated[str | None, Query(description="A question's id.")] = None,
    correct: bool | None = None,
    in_loss: bool | None = None,
    outcome: Outcomes = None,
    order: Order = "oldest",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> shapes.Listing[shapes.Exchange]:
    """Exchanges; every filter narrows."""
    queries.run_row(session, run_id)
    return queries.exchanges(
        session,
        run_id,
        round=round,
        step=step,
        tutee=tutee or student,
        tutor=tutor,
        domain=domain,
        question=question,
        correct=correct,
        in_loss=in_loss,
        outcomes=outcome or (),
        after=queries.cursor(cursor),
        newest_first=order == "newest",
        limit=limit,
    )


@router.get("/exchanges/{exchange_id}")
def exchange(exchange_id: Annotated[int, Path(ge=1, le=2**63 - 1)], session: Reader) -> shapes.ExchangeDetail:
    """One exchange, with its siblings' ids."""
    return queries.exchange(session, exchange_id)


@router.get("/runs/{run_id}/evaluations")
def evaluations(run_id: RunId, session: Reader, cursor: Cursor = None, limit: Many = 1000) -> shapes.Listing[shapes.EvaluationShape]:
    """Evaluations in order of arrival."""
    queries.run_row(session, run_id)
    return queries.evaluations(session, run_id, after=queries.cursor(cursor), limit=limit)


@router.get("/runs/{run_id}/gate-decisions")
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
    settings: CurrentSettings,
    after: Annotated[int | None, Query(description="Byte to read from; empty: the log's last part.", ge=0)] = None,
    limit: Annotated[int, Query(description="Most bytes.", ge=1, le=1_000_000)] = 65_536,
) -> shapes.LogPart:
    """A part of the run's log."""
    return logs.read(settings.run_folder(queries.run_row(session, run_id).folder) / logs.FILE_NAME, after=after, limit=limit)
