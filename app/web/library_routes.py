"""Domains: what experiments may name, and what is in their files."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.dependencies import CurrentSettings, Reader
from app.templating import render
from app.web.exchange_filters import whole
from app.web.library_page import domain_page, domains_list
from app.web.upload_page import uploads_box

router = APIRouter()


@router.get("/domains")
def domains(request: Request, session: Reader, settings: CurrentSettings, before: str = "") -> Response:
    """The list of domains."""
    page = domains_list(session, before=whole(before))
    return render(request, "pages/domains.html", page=page, box=uploads_box(session, settings))


@router.get("/domains/{domain_id:int}")
def domain(request: Request, domain_id: int, session: Reader) -> Response:
    """One domain, its files read now."""
    return render(request, "pages/domain.html", page=domain_page(session, domain_id))
