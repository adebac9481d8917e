"""The storage page, a run's files, and the buttons that delete."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, CurrentStore, Reader
from app.api.storage import send_export
from app.db import reading
from app.errors import Conflict
from app.lifecycle import launching
from app.records import queries
from app.templating import render
from app.web.deps import go_to, wants_fragment
from app.web.storage_page import run_files, storage_page

router = APIRouter()


@router.get("/storage")
def storage(request: Request, session: Reader) -> Response:
    """What runs take, and the biggest of them."""
    return render(request, "pages/storage.html", page=storage_page(session))


@router.get("/storage/list")
def storage_list(request: Request, session: Reader) -> Response:
    """The live part of the storage page."""
    return render(request, "partials/storage.html", page=storage_page(session))


@router.get("/runs/{run_id:int}/files")
def files(request: Request, run_id: int, session: Reader, store: CurrentStore) -> Response:
    """A run's exports and checkpoints: asked for by its page, because a store may be slow."""
    return render(request, "partials/run_files.html", files=run_files(session, store, run_id))


@router.get("/runs/{run_id:int}/exports/{student}")
def export(run_id: int, student: str, session: Reader, store: CurrentStore) -> Response:
    """A trained student's model folder as a tar file."""
    return send_export(store, run_id, queries.run_row(session, run_id).folder, student)


@router.post("/runs/{run_id:int}/delete")
def delete(
    request: Request, run_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, to: str = ""
) -> Response:
    """Delete a run for good; then show the runs, or the storage page (`to=storage`)."""
    refused = None
    try:
        launching.delete(engine, settings.broker_url, run_id, actor=person.name)
    except Conflict as conflict:
        if not wants_fragment(request) or to != "storage":
            raise
        refused = conflict
    if to != "storage":
        return go_to(request, "/")
    if not wants_fragment(request):
        return go_to(request, "/storage")
    with reading(engine) as session:
        page = storage_page(session, refused=refused)
        return render(request, "partials/storage.html", page=page, status=409 if refused else 200)
