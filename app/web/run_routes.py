"""The runs list and a run's page, with their fragments and streams."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from sqlalchemy import Engine
from sse_starlette import EventSourceResponse

from app import launching, queries
from app.api.dependencies import CurrentBell, CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading
from app.errors import Conflict
from app.page_queries import results_of, run_head, run_page, runs_list
from app.templating import render
from app.web.deps import go_to, stream_start, wants_fragment
from app.web.exchange_pages import whole
from app.web.series import series
from app.web.streams import list_stream, run_stream

router = APIRouter()
HEARTBEAT_SECONDS = 15
After = Annotated[int, Query(ge=0, le=2**62)]
LastEventId = Annotated[str | None, Header()]


@router.get("/")
def runs(request: Request, session: Reader, status: str = "", q: str = "", before: str = "") -> Response:
    """The runs page."""
    return render(request, "pages/runs.html", runs=runs_list(session, status=status, search=q[:200], before=whole(before)))


@router.get("/runs/list")
def runs_table(request: Request, session: Reader, status: str = "", q: str = "", before: str = "") -> Response:
    """The live part of the runs page."""
    return render(request, "partials/runs_table.html", runs=runs_list(session, status=status, search=q[:200], before=whole(before)))


@router.get("/runs/live")
async def runs_live(engine: CurrentEngine, after: After = 0, last_event_id: LastEventId = None) -> EventSourceResponse:
    """Says when any run has news."""
    return EventSourceResponse(list_stream(engine, stream_start(last_event_id, after)), ping=HEARTBEAT_SECONDS)


@router.get("/runs/{run_id:int}")
def run(request: Request, run_id: int, session: Reader) -> Response:
    """A run's page."""
    return render(request, "pages/run.html", page=run_page(session, run_id))


@router.get("/runs/{run_id:int}/head")
def head(request: Request, run_id: int, session: Reader) -> Response:
    """Status, progress and buttons."""
    return render(request, "partials/run_head.html", head=run_head(session, run_id))


@router.get("/runs/{run_id:int}/results")
def results(request: Request, run_id: int, session: Reader) -> Response:
    """Plane, scores and verdict."""
    return render(request, "partials/run_results.html", results=results_of(session, run_id))


@router.get("/runs/{run_id:int}/rounds")
def rounds(request: Request, run_id: int, session: Reader) -> Response:
    """Who was validated, who may tutor, who tutored whom, and what it broke and rescued."""
    return render(request, "partials/run_rounds.html", results=results_of(session, run_id))


@router.get("/runs/{run_id:int}/series")
def chart_series(run_id: int, session: Reader, after: After = 0) -> dict[str, Any]:
    """What the charts draw, after a place in the run's stream."""
    queries.run_row(session, run_id)
    return series(session, run_id, after)


@router.get("/runs/{run_id:int}/live")
async def live(
    run_id: int, engine: CurrentEngine, bell: CurrentBell, after: After = 0, last_event_id: LastEventId = None
) -> EventSourceResponse:
    """Says which part of a run's page has news."""
    await to_thread.run_sync(_check, engine, run_id)
    return EventSourceResponse(run_stream(engine, bell, run_id, stream_start(last_event_id, after)), ping=HEARTBEAT_SECONDS)


@router.post("/runs/{run_id:int}/stop")
def stop(request: Request, run_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Ask the run to stop."""
    return _change(request, run_id, engine, lambda: launching.stop(engine, settings.broker_url, run_id, actor=person.name))


@router.post("/runs/{run_id:int}/resume")
def resume(request: Request, run_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Queue the run again."""
    return _change(request, run_id, engine, lambda: launching.resume(engine, settings.broker_url, run_id, actor=person.name))


def _change(request: Request, run_id: int, engine: Engine, change: Any) -> Response:
    """Do it and show the new head; where the run's state refuses, show the head with what it says."""
    refused = None
    try:
        change()
    except Conflict as conflict:
        if not wants_fragment(request):
            raise
        refused = conflict
    if not wants_fragment(request):
        return go_to(request, f"/runs/{run_id}")
    with reading(engine) as session:
        return render(request, "partials/run_head.html", head=run_head(session, run_id, refused=refused), status=409 if refused else 200)


def _check(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        queries.run_row(session, run_id)
