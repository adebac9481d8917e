"""The launch page: open it, check it, turn it over to YAML and back, launch it."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import idempotency
from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading, writing
from app.experiments import experiments
from app.idempotency import Asked
from app.lifecycle import launching
from app.templating import render
from app.web import launch
from app.web.deps import Pairs, go_to, wants_fragment

router = APIRouter()


@router.get("/experiments/new")
def new(request: Request, session: Reader, preset: str = "", domain: str = "", preflight: str = "") -> Response:
    """The page, from a preset, from an earlier run (`?from=ID`) or from what a pre-flight looked at, with a domain of the library."""
    page = launch.new_page(session, preset, request.query_params.get("from", ""), domain, preflight)
    return render(request, "pages/launch.html", page=page)


@router.post("/experiments/form")
def form(request: Request, session: Reader, pairs: Pairs) -> Response:
    """The form again: with a student or domain more or less, or in its other view (`show`)."""
    wanted = dict(pairs).get("show")
    tab = wanted if wanted in ("form", "yaml") else None
    return render(request, "partials/launch_form.html", launch=launch.view(session, launch.submission(pairs), tab))  # type: ignore[arg-type]


@router.post("/experiments/validate")
def validate(request: Request, session: Reader, pairs: Pairs) -> Response:
    """What is wrong with the form, and what differs from where it began."""
    return render(request, "partials/launch_check.html", check=launch.view(session, launch.submission(pairs)).check)


@router.post("/experiments")
def create(request: Request, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, pairs: Pairs) -> Response:
    """Make the experiment and queue its run; or show what is wrong."""
    sent = launch.submission(pairs)
    config, _ = launch.judge(sent)
    if config is None:
        with reading(engine) as session:
            view = launch.view(session, sent)
            if wants_fragment(request):
                return render(request, "partials/launch_form.html", launch=view, status=422)
            page = launch.LaunchPage(launch.presets(sent.preset), view)
            return render(request, "pages/launch.html", page=page, status=422)
    data = config.model_dump(mode="json")
    asked = Asked(person.name, None, "experiment by the form", data)
    if sent.key:  # the same form sent twice makes one experiment; changed and sent again, another
        asked = replace(asked, key=f"form {sent.key} {asked.fingerprint}")
    with writing(engine) as session:
        experiment_id, _ = idempotency.once(session, asked, lambda: experiments.create(session, config, preset=launch.known_preset(sent)))
    started = replace(asked, key=asked.key and f"{asked.key} run", operation="run by the form")
    run_id, _ = launching.start(engine, settings.broker_url, experiment_id, actor=person.name, asked=started)
    return go_to(request, f"/runs/{run_id}")
