"""Pages of specialists."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading, writing
from app.errors import Invalid, NotFound, Refused
from app.library import specialists
from app.lifecycle import asking, jobs
from app.templating import render
from app.web import form_faults, specialist_page
from app.web.deps import Pairs, go_to, wants_fragment
from app.web.exchange_filters import whole

router = APIRouter()


@router.get("/specialists/new")
def new(request: Request, session: Reader, model: str = "", domain: str = "") -> Response:
    """The form; `from` names an earlier one to start with."""
    source = whole(request.query_params.get("from", ""))
    return render(request, "pages/specialist_new.html", form=specialist_page.start(session, model[:500], domain[:20], source))


@router.post("/specialists")
def make(request: Request, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, pairs: Pairs) -> Response:
    """Have it made."""
    sent = dict(pairs)
    asked, faults = specialist_page.read_form(sent)
    if asked is not None:
        try:
            job_id = asking.job(engine, settings.broker_url, lambda session: specialists.ask(session, asked, person=person.name))
            return go_to(request, f"/specialists/{job_id}")
        except (Invalid, NotFound, Refused) as error:
            faults = form_faults.of_error(error)
    template = "partials/specialist_form.html" if wants_fragment(request) else "pages/specialist_new.html"
    with reading(engine) as session:
        return render(request, template, status=422, form=specialist_page.form(session, sent, faults))


@router.get("/specialists/{job_id:int}")
def one(request: Request, job_id: int, session: Reader) -> Response:
    """The live page of one."""
    return render(request, "pages/specialist.html", page=specialist_page.page(session, job_id))


@router.get("/specialists/{job_id:int}/live")
def live(request: Request, job_id: int, session: Reader) -> Response:
    """What changes of it."""
    return render(request, "partials/specialist_live.html", live=specialist_page.live(session, job_id))


@router.post("/jobs/{job_id:int}/stop")
def stop(request: Request, job_id: int, engine: CurrentEngine) -> Response:
    """Give up a specialist or a chat."""
    with writing(engine) as session:
        job = jobs.cancel(session, job_id)
    return go_to(request, f"/specialists/{job_id}" if job.kind == specialists.KIND else "/chats")
