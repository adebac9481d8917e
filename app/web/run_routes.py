"""The runs list and a run's page, with their fragments and streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Depends, Form, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import Session
from sse_starlette import EventSourceResponse

from app.api.dependencies import CurrentBell, CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.api.runs import RunChange
from app.db import reading
from app.errors import Forbidden
from app.lifecycle import launching
from app.records import queries
from app.records.chart_shapes import Quantity
from app.records.page_queries import RunsFilter, RunsList, results_of, run_filing, run_head, run_history, run_page, runs_list
from app.templating import render
from app.web.deps import go_to, refusal, stream_start, wants_fragment
from app.web.estimate_page import taken
from app.web.exchange_filters import whole
from app.web.known_series import series_of
from app.web.queue_routes import change_queue
from app.web.series import Wanted
from app.web.shared import shared, version_of_run, version_of_runs
from app.web.streams import list_stream, run_stream

T = TypeVar("T")

router = APIRouter()
HEARTBEAT_SECONDS = 15
After = Annotated[int, Query(ge=0, le=2**62)]
Width = Annotated[int | None, Query(ge=0, le=2**31 - 1)]
LastEventId = Annotated[str | None, Header()]


async def _chosen(status: str = "", q: str = "", tag: str = "", owner: str = "", archived: str = "", before: str = "") -> RunsFilter:
    return RunsFilter(status, q[:200], tag[:64], owner[:200], archived == "1", whole(before))


Chosen = Annotated[RunsFilter, Depends(_chosen)]


@router.get("/")
def runs(request: Request, session: Reader, chosen: Chosen) -> Response:
    """The runs page."""
    return render(request, "pages/runs.html", runs=_runs_list(session, chosen))


@router.get("/runs/list")
def runs_table(request: Request, session: Reader, chosen: Chosen) -> Response:
    """The live part of the runs page."""
    return render(request, "partials/runs_table.html", runs=_runs_list(session, chosen))


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
    return render(request, "partials/run_head.html", head=_shared(session, run_id, run_head))


@router.get("/runs/{run_id:int}/results")
def results(request: Request, run_id: int, session: Reader) -> Response:
    """Plane, scores and verdict."""
    return render(request, "partials/run_results.html", results=_shared(session, run_id, results_of))


@router.get("/runs/{run_id:int}/rounds")
def rounds(request: Request, run_id: int, session: Reader) -> Response:
    """Who was validated, who may tutor, who tutored whom, and what it broke and rescued."""
    return render(request, "partials/run_rounds.html", results=_shared(session, run_id, results_of))


@router.get("/runs/{run_id:int}/estimate")
def estimate(request: Request, run_id: int, session: Reader) -> Response:
    """What it was expected to take, and what it took."""
    return render(request, "partials/run_estimate.html", taken=taken(session, run_id))


@router.get("/runs/{run_id:int}/series")
def chart_series(
    run_id: int,
    session: Reader,
    after: Annotated[int, Query(ge=-1, le=2**62)] = -1,
    name: Annotated[list[str] | None, Query(max_length=200)] = None,
    curves: Width = None,
    tallies: Width = None,
    heat: Width = None,
    quantity: Quantity = "response_tokens",
) -> JSONResponse:
    """What the charts lack. Written here: a shape of plain numbers needs no second look."""
    return JSONResponse(series_of(session, run_id, Wanted(after, name or (), curves, tallies, heat, quantity)))


@router.get("/runs/{run_id:int}/live")
async def live(
    run_id: int, engine: CurrentEngine, bell: CurrentBell, after: After = 0, last_event_id: LastEventId = None
) -> EventSourceResponse:
    """Says which part of a run's page has news."""
    await to_thread.run_sync(_check, engine, run_id)
    return EventSourceResponse(run_stream(engine, bell, run_id, stream_start(last_event_id, after)), ping=HEARTBEAT_SECONDS)


@router.get("/runs/{run_id:int}/history")
def history(request: Request, run_id: int, session: Reader) -> Response:
    """Every change of the run's status."""
    queries.run_row(session, run_id)
    return render(request, "partials/run_history.html", history=run_history(session, run_id))


@router.post("/runs/{run_id:int}/pause")
def pause(request: Request, run_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Ask the run to pause."""
    return _change(request, run_id, engine, lambda: launching.pause(engine, settings.broker_url, run_id, actor=person.name))


@router.post("/runs/{run_id:int}/stop")
def stop(request: Request, run_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, to: str = "") -> Response:
    """Ask the run to stop; from the queue's page (`to=queue`) with the queue as the answer."""
    if to != "queue":
        return _change(request, run_id, engine, lambda: launching.stop(engine, settings.broker_url, run_id, actor=person.name))
    return change_queue(request, engine, lambda: launching.stop(engine, settings.broker_url, run_id, actor=person.name))


@router.post("/runs/{run_id:int}/resume")
def resume(request: Request, run_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Queue the run again."""
    return _change(request, run_id, engine, lambda: launching.resume(engine, settings.broker_url, run_id, actor=person.name))


@router.post("/runs/{run_id:int}/retry")
def retry(request: Request, run_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Do an ended run over from the start, as a new run; show that one."""
    new: list[int] = []

    def do() -> None:
        new.append(launching.retry(engine, settings.broker_url, run_id, afresh=True, actor=person.name))

    answer = _change(request, run_id, engine, do)
    return go_to(request, f"/runs/{new[0]}") if new else answer


@router.post("/runs/{run_id:int}/filing")
def file(
    request: Request,
    run_id: int,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    name: Annotated[str, Form()] = "",
    tags: Annotated[str, Form()] = "",
    priority: Annotated[str, Form()] = "0",
    archived: Annotated[str, Form()] = "",
) -> Response:
    """Name, tag, rank and archive the run."""
    fault = ""
    try:
        wanted = RunChange.model_validate(
            {
                "name": name.strip(),
                "tags": [tag for part in tags.split(",") if (tag := part.strip())],
                "priority": priority,
                "archived": archived == "1",
            }
        )
        launching.change(engine, settings.broker_url, run_id, wanted.model_dump(), may_rank=person.is_admin)
    except Forbidden as error:
        fault = f"{error} {error.advice}"
    except ValidationError as error:
        first = error.errors()[0]
        fault = f"{str(first['loc'][0]).capitalize()}: {first['msg'][0].lower()}{first['msg'][1:]}."
    if not wants_fragment(request) and not fault:
        return go_to(request, f"/runs/{run_id}")
    with reading(engine) as session:
        filing = run_filing(session, run_id, saved=not fault, fault=fault)
        return render(request, "partials/run_filing.html", filing=filing, status=422 if fault else 200)


def _change(request: Request, run_id: int, engine: Engine, change: Callable[[], object]) -> Response:
    """Do it and show the new head; where the run's state refuses, show the head with what it says."""
    if not wants_fragment(request):
        change()
        return go_to(request, f"/runs/{run_id}")
    refused = refusal(change)
    with reading(engine) as session:
        return render(request, "partials/run_head.html", head=run_head(session, run_id, refused=refused), status=409 if refused else 200)


def _runs_list(session: Session, chosen: RunsFilter) -> RunsList:
    return shared(session, ("runs", chosen), version_of_runs(session), lambda: runs_list(session, chosen))


def _shared(session: Session, run_id: int, make: Callable[[Session, int], T]) -> T:
    """A context of the run that does not depend on who looks."""
    return shared(session, (make.__name__, run_id), version_of_run(session, run_id), lambda: make(session, run_id))


def _check(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        queries.run_row(session, run_id)
