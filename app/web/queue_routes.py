"""The queue and the workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import Engine

from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading
from app.lifecycle import launching
from app.templating import render
from app.web.deps import go_to, refusal, wants_fragment
from app.web.queue_page import queue_page, workers_page

router = APIRouter()


@router.get("/queue")
def queue(request: Request, session: Reader) -> Response:
    """Who waits, in order, and who is being served."""
    return render(request, "pages/queue.html", queue=queue_page(session))


@router.get("/queue/list")
def queue_list(request: Request, session: Reader) -> Response:
    """The live part of the queue's page."""
    return render(request, "partials/queue.html", queue=queue_page(session))


@router.post("/runs/{run_id:int}/move")
def move(
    request: Request,
    run_id: int,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    position: Annotated[int, Form(ge=1, le=1_000_000)],
) -> Response:
    """Put a waiting run at a place in the queue."""
    return change_queue(request, engine, lambda: launching.move(engine, settings.broker_url, run_id, position))


def change_queue(request: Request, engine: Engine, change: Callable[[], object]) -> Response:
    """Do it and show the queue as it then is; where a run's state refuses, with what it says."""
    refused = refusal(change)
    if not wants_fragment(request):
        return go_to(request, "/queue")
    with reading(engine) as session:
        return render(request, "partials/queue.html", queue=queue_page(session, refused=refused), status=409 if refused else 200)


@router.get("/workers")
def workers(request: Request, session: Reader) -> Response:
    """What runs where."""
    return render(request, "pages/workers.html", workers=workers_page(session))


@router.get("/workers/list")
def worker_list(request: Request, session: Reader) -> Response:
    """The live part of the workers' page."""
    return render(request, "partials/workers.html", workers=workers_page(session))
