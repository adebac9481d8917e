"""Pages of replays."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlmodel import Session

from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading, writing
from app.errors import Invalid, Refused
from app.experiments import preflights
from app.lifecycle import asking, jobs
from app.templating import render
from app.web.deps import Pairs, go_to, wants_fragment
from app.web.preflight_page import panel_of
from app.web.replay_page import read_form, replay_form, replay_list

router = APIRouter()


@router.get("/exchanges/{exchange_id:int}/replays")
def replays(request: Request, exchange_id: int, session: Reader) -> Response:
    """Form and list."""
    return _render(request, session, exchange_id)


@router.get("/exchanges/{exchange_id:int}/replays/list")
def listed(request: Request, exchange_id: int, session: Reader) -> Response:
    """The list alone, as it is now."""
    return render(request, "partials/replay_list.html", listing=replay_list(session, exchange_id))


@router.post("/exchanges/{exchange_id:int}/replays")
def ask(
    request: Request, exchange_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, pairs: Pairs
) -> Response:
    """Ask again."""
    sent = dict(pairs)
    with reading(engine) as session:
        asked, fault = read_form(sent, replay_form(session, exchange_id))
    if asked is not None:
        try:
            asking.replay(engine, settings.broker_url, exchange_id, asked, person=person.name)
        except Invalid as error:
            fault = " ".join(f"{one.message} {one.advice}" for one in error.faults)
        except Refused as error:
            fault = f"{error} {error.advice}"
    if not wants_fragment(request) and not fault:
        return go_to(request, f"/exchanges/{exchange_id}#replays")
    with reading(engine) as session:
        return _render(request, session, exchange_id, sent, fault)


@router.post("/jobs/{job_id:int}/cancel")
def cancel(request: Request, job_id: int, engine: CurrentEngine) -> Response:
    """Give up a replay or a pre-flight."""
    with writing(engine) as session:
        job = jobs.cancel(session, job_id)
        kind, exchange_id = job.kind, job.exchange_id or 0
    if kind == preflights.KIND:
        if not wants_fragment(request):
            return go_to(request, f"/preflights/{job_id}")
        with reading(engine) as session:
            return render(request, "partials/preflight_panel.html", panel=panel_of(session, job_id))
    if not wants_fragment(request):
        return go_to(request, f"/exchanges/{exchange_id}#replays")
    with reading(engine) as session:
        return render(request, "partials/replay_list.html", listing=replay_list(session, exchange_id))


def _render(request: Request, session: Session, exchange_id: int, sent: dict[str, str] | None = None, fault: str = "") -> Response:
    form = replay_form(session, exchange_id, sent, fault)
    return render(request, "partials/replays.html", status=422 if fault else 200, form=form, listing=replay_list(session, exchange_id))
