"""Runs side by side, and a run's report."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlmodel import Session

from app.api.dependencies import Reader
from app.templating import render
from app.web.compare_page import Asked, ComparePage, compare_page
from app.web.report_page import report_page
from app.web.shared import shared, version_of_runs

router = APIRouter()


@router.get("/compare")
def compare(request: Request, session: Reader) -> Response:
    """Several runs on one page. An address that a form made is sent on to the short one, which is worth sharing."""
    given = request.query_params
    asked = Asked.read(given.multi_items())
    if len(given.getlist("runs")) > 1 or "" in given.values():
        return RedirectResponse(asked.but(), status_code=303)
    return render(request, "pages/compare.html", page=_page(session, asked))


@router.get("/compare/scores")
def scores(request: Request, session: Reader) -> Response:
    """The table of scores, which changes while runs go on."""
    return render(request, "partials/compare_scores.html", page=_page(session, Asked.read(request.query_params.multi_items())))


@router.get("/compare/more")
def more(request: Request, session: Reader) -> Response:
    """Planes, settings and numbers, which change too."""
    return render(request, "partials/compare_more.html", page=_page(session, Asked.read(request.query_params.multi_items())))


@router.get("/runs/{run_id:int}/report")
def report(request: Request, run_id: int, session: Reader) -> Response:
    """The run in one document, beside the runs that the address names (`compare=`), or else the other points of its sweep."""
    given = [part.strip() for value in request.query_params.getlist("compare") for part in value.split(",")]
    chosen = [int(part) for part in given if part.isascii() and part.isdigit() and len(part) < 10] if given else None
    return render(request, "pages/report.html", page=report_page(session, run_id, chosen))


def _page(session: Session, asked: Asked) -> ComparePage:
    return shared(session, ("compare", asked), version_of_runs(session), lambda: compare_page(session, asked))
