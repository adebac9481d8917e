"""Bringing a domain's files, mapping their columns, saving what they come to."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.access import audit
from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.api.uploads import OtherFile, sent
from app.db import reading
from app.domains import uploads
from app.errors import Invalid, Refused
from app.templating import render
from app.web.deps import Pairs, go_to, wants_fragment
from app.web.library_page import domain_page, domains_list
from app.web.upload_page import mapping_of, upload_page, uploads_box

router = APIRouter()


@router.post("/uploads")
def bring(
    request: Request,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    train: OtherFile = None,
    validation: OtherFile = None,
    test: OtherFile = None,
) -> Response:
    """Take files in and go on to their columns; or say what is wrong with them."""
    try:
        upload_id = uploads.receive(engine, settings, sent(train, validation, test), owner=person.name)
    except Invalid as invalid:
        with reading(engine) as session:
            box = uploads_box(session, settings, invalid.faults)
            if wants_fragment(request):
                return render(request, "partials/upload_box.html", box=box, status=422)
            return render(request, "pages/domains.html", page=domains_list(session), box=box, status=422)
    audit.about(request, f"upload {upload_id}")
    return go_to(request, f"/uploads/{upload_id}")


@router.get("/uploads/{upload_id:int}")
def upload(request: Request, upload_id: int, session: Reader, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Its columns; once it is a domain, that."""
    found = uploads.upload(session, upload_id)
    if found.domain is not None:
        return go_to(request, f"/domains/{found.domain.domain_id}")
    page = upload_page(session, settings, upload_id, None, may_save=person.may_change(found.owner))
    return render(request, "pages/upload.html", page=page)


@router.post("/uploads/{upload_id:int}/check")
def check(request: Request, upload_id: int, session: Reader, settings: CurrentSettings, pairs: Pairs) -> Response:
    """What the form comes to; changes nothing."""
    page = upload_page(session, settings, upload_id, pairs, may_save=True)
    return render(request, "partials/upload_check.html", view=page.check)


@router.post("/uploads/{upload_id:int}/save")
def save(request: Request, upload_id: int, engine: CurrentEngine, settings: CurrentSettings, pairs: Pairs) -> Response:
    """Make a domain of it, or show what is wrong."""
    with reading(engine) as session:
        mapping, _ = mapping_of(session, upload_id, pairs)
    if mapping is not None:
        try:
            return go_to(request, f"/domains/{uploads.save(engine, settings, upload_id, mapping)}")
        except Invalid:
            pass  # the page finds it again, with all else
    with reading(engine) as session:
        page = upload_page(session, settings, upload_id, pairs, may_save=True)
    template = "partials/upload_form.html" if wants_fragment(request) else "pages/upload.html"
    return render(request, template, page=page, status=422)


@router.post("/uploads/{upload_id:int}/delete")
def delete(request: Request, upload_id: int, engine: CurrentEngine, settings: CurrentSettings) -> Response:
    """Delete it with its domain, or say which runs it is kept for."""
    try:
        uploads.delete(engine, settings, upload_id)
    except Refused as refused:
        with reading(engine) as session:
            found = uploads.upload(session, upload_id)
            assert found.domain is not None
            page = domain_page(session, found.domain.domain_id, refusal=f"{refused} {refused.advice}")
            return render(request, "pages/domain.html", page=page, status=409)
    return go_to(request, "/domains")
