"""The pre-flight's pages: asked for from the launch form, followed while it is under way, read when it is done."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading
from app.errors import Refused
from app.experiments import preflights
from app.templating import render
from app.web import launch
from app.web.deps import Pairs, go_to, wants_fragment
from app.web.exchange_filters import whole
from app.web.preflight_page import Panel, page_of, panel_of, preflights_list
from opcod.preflight.findings import PreflightSize

router = APIRouter()
PANEL = "partials/preflight_panel.html"


@router.post("/experiments/preflight")
def start(request: Request, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, pairs: Pairs) -> Response:
    """Let a worker look at what is in the form."""
    config, _ = launch.judge(launch.submission(pairs))
    if config is None:
        return render(request, PANEL, panel=Panel(notice="Mend the settings first."), status=422)
    try:
        made = preflights.start(engine, settings.broker_url, config, PreflightSize(), owner=person.name)
    except Refused as refused:
        return render(request, PANEL, panel=Panel(notice=f"{refused} {refused.advice}"), status=409)
    if not wants_fragment(request):
        return go_to(request, f"/preflights/{made}")
    with reading(engine) as session:
        return render(request, PANEL, panel=panel_of(session, made))


@router.get("/preflights")
def listed(request: Request, session: Reader, before: str = "") -> Response:
    """The list of pre-flights."""
    return render(request, "pages/preflights.html", listed=preflights_list(session, before=whole(before)))


@router.get("/preflights/{preflight_id:int}")
def page(request: Request, preflight_id: int, session: Reader) -> Response:
    """A pre-flight with all that it found."""
    return render(request, "pages/preflight.html", page=page_of(session, preflight_id))


@router.get("/preflights/{preflight_id:int}/panel")
def panel(request: Request, preflight_id: int, session: Reader) -> Response:
    """How far it is, and what it means, beside the launch form."""
    return render(request, PANEL, panel=panel_of(session, preflight_id))


@router.get("/preflights/{preflight_id:int}/body")
def body(request: Request, preflight_id: int, session: Reader) -> Response:
    """The page's live part."""
    return render(request, "partials/preflight.html", page=page_of(session, preflight_id))
