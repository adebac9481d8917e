"""Sweeps: the list, one sweep, and the form that launches one."""

from __future__ import annotations

from secrets import token_urlsafe

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading
from app.experiments import sweeps
from app.idempotency import Asked
from app.templating import render
from app.web.deps import Pairs, go_to, wants_fragment
from app.web.exchange_filters import whole
from app.web.sweep_page import judge, sweep_form, sweep_page, sweeps_list

router = APIRouter()


@router.get("/sweeps")
def sweep_list(request: Request, session: Reader, before: str = "") -> Response:
    """The list of sweeps."""
    return render(request, "pages/sweeps.html", sweeps=sweeps_list(session, before=whole(before)))


@router.get("/sweeps/list")
def sweep_table(request: Request, session: Reader, before: str = "") -> Response:
    """The live part of the list."""
    return render(request, "partials/sweeps_table.html", sweeps=sweeps_list(session, before=whole(before)))


@router.get("/sweeps/new")
def new(request: Request) -> Response:
    """The form, filled in from the address where that says something."""
    return render(request, "pages/sweep_new.html", form=sweep_form(request.query_params, key=token_urlsafe(12)))


@router.post("/sweeps/check")
def check(request: Request, pairs: Pairs) -> Response:
    """What the form comes to; changes nothing."""
    sent = dict(pairs)
    form = sweep_form(sent | {"name": sent.get("name", "").strip() or "sweep"}, key="")  # a name that is still to come is no fault
    return render(request, "partials/sweep_check.html", check=judge(form)[2])


@router.post("/sweeps")
def launch(request: Request, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, pairs: Pairs) -> Response:
    """Launch the sweep, or show what is wrong."""
    form = sweep_form(dict(pairs), key=token_urlsafe(12))
    plan, found, checked = judge(form)
    if checked.faults:
        shown = sweep_form(dict(pairs), key=form.key, check=checked)
        template = "partials/sweep_form.html" if wants_fragment(request) else "pages/sweep_new.html"
        return render(request, template, form=shown, status=422)
    asked = Asked(person.name, None, "sweep by the form", [plan.name, plan.preset, plan.config, plan.grid, plan.ablation])
    asked = Asked(person.name, f"form {form.key} {asked.fingerprint}", asked.operation, asked.body)  # changed and sent again: another
    sweep_id, _ = sweeps.start(engine, settings.broker_url, plan, found, owner=person.name, asked=asked)
    return go_to(request, f"/sweeps/{sweep_id}")


@router.get("/sweeps/{sweep_id:int}")
def sweep(request: Request, sweep_id: int, session: Reader) -> Response:
    """A sweep's page."""
    return render(request, "pages/sweep.html", page=sweep_page(session, sweep_id))


@router.get("/sweeps/{sweep_id:int}/body")
def body(request: Request, sweep_id: int, session: Reader) -> Response:
    """The live part of a sweep's page."""
    return render(request, "partials/sweep.html", page=sweep_page(session, sweep_id))


@router.post("/sweeps/{sweep_id:int}/stop")
def stop(request: Request, sweep_id: int, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Stop every run that has not ended."""
    sweeps.stop(engine, settings.broker_url, sweep_id, actor=person.name)
    if not wants_fragment(request):
        return go_to(request, f"/sweeps/{sweep_id}")
    with reading(engine) as session:
        return render(request, "partials/sweep.html", page=sweep_page(session, sweep_id))
