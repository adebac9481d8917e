"""The inspector, one exchange, and what people note about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from starlette.datastructures import QueryParams

from app.api.dependencies import CurrentEngine, CurrentPerson, Reader
from app.db import reading, writing
from app.errors import Invalid
from app.records import comments, labels, queries, views
from app.templating import render
from app.web.deps import go_to, wants_fragment
from app.web.exchange_filters import query_of, read_filters, whole
from app.web.exchange_pages import Look, exchange_page, notes
from app.web.inspector import exchange_rows, inspector, rows_at

router = APIRouter()
Word = Annotated[str, Form(max_length=20_000)]


def read_look(given: QueryParams) -> Look:
    """How the address says an exchange is looked at."""
    return Look(full=given.get("full") == "1", raw=given.get("text") == "raw", beside=given.get("beside", "")[:20])


@router.get("/runs/{run_id:int}/exchanges")
def exchanges(request: Request, run_id: int, session: Reader) -> Response:
    """The inspector."""
    given = request.query_params
    place = {name: whole(given.get(name)) for name in ("after", "before")}
    page = inspector(session, run_id, read_filters(given), read_look(given), current=whole(given.get("exchange")), **place)
    return render(request, "pages/exchanges.html", inspector=page, exchange=page.exchange)


@router.get("/runs/{run_id:int}/exchanges/rows")
def rows(request: Request, run_id: int, session: Reader) -> Response:
    """A part of the inspector's list."""
    given = request.query_params
    queries.run_row(session, run_id)
    if (thousandth := whole(given.get("at"))) is not None:
        return render(
            request, "partials/exchange_rows.html", rows=rows_at(session, run_id, read_filters(given), min(thousandth, 1000) / 1000)
        )
    found = exchange_rows(session, run_id, read_filters(given), after=whole(given.get("after")), before=whole(given.get("before")))
    return render(request, "partials/exchange_rows.html", rows=found)


@router.get("/exchanges/{exchange_id:int}")
def exchange(request: Request, exchange_id: int, session: Reader) -> Response:
    """One exchange; for htmx, as the inspector shows it."""
    given = request.query_params
    template = "partials/exchange.html" if wants_fragment(request) else "pages/exchange.html"
    return render(request, template, exchange=exchange_page(session, exchange_id, read_filters(given), read_look(given)))


@router.post("/exchanges/{exchange_id:int}/star")
def star(request: Request, exchange_id: int, engine: CurrentEngine, person: CurrentPerson, on: Word = "") -> Response:
    """Put a star on an exchange, or take it off."""
    with writing(engine) as session:
        if on:
            labels.put(session, exchange_id, labels.STAR, person.name)
        else:
            labels.remove(session, exchange_id, labels.STAR)
    return _noted(request, engine, exchange_id)


@router.post("/exchanges/{exchange_id:int}/labels")
def label(
    request: Request, exchange_id: int, engine: CurrentEngine, person: CurrentPerson, label: Word = "", remove: Word = ""
) -> Response:
    """Put a label on an exchange, or take one off."""
    error = ""
    try:
        with writing(engine) as session:
            if remove:
                labels.remove(session, exchange_id, remove)
            else:
                labels.put(session, exchange_id, label, person.name)
    except Invalid as invalid:
        error = invalid.faults[0].message
    return _noted(request, engine, exchange_id, error)


@router.post("/exchanges/{exchange_id:int}/comments")
def comment(
    request: Request, exchange_id: int, engine: CurrentEngine, person: CurrentPerson, text: Word = "", remove: Word = ""
) -> Response:
    """Write a comment, or take one away."""
    error = ""
    try:
        with writing(engine) as session:
            if remove:
                comments.remove(session, exchange_id, whole(remove) or 0, person)
            else:
                comments.write(session, exchange_id, text, person.name)
    except Invalid as invalid:
        error = invalid.faults[0].message
    return _noted(request, engine, exchange_id, error)


@router.post("/runs/{run_id:int}/exchanges/views")
def save_view(
    request: Request, run_id: int, engine: CurrentEngine, person: CurrentPerson, name: Word = "", query: Word = "", remove: Word = ""
) -> Response:
    """Save the filter under a name, or take a saved view away; then show the list again."""
    filters = read_filters(QueryParams(query))
    with writing(engine) as session:
        if remove:
            views.check_owner(session, whole(remove) or 0, person)
            views.remove(session, whole(remove) or 0)
        else:
            views.save(session, name, query_of(filters), person.name)
    return go_to(request, f"/runs/{run_id}/exchanges{query_of(filters)}")


def _noted(request: Request, engine: CurrentEngine, exchange_id: int, error: str = "") -> Response:
    if not wants_fragment(request):
        return go_to(request, f"/exchanges/{exchange_id}")
    with reading(engine) as session:
        return render(request, "partials/exchange_notes.html", status=422 if error else 200, notes=notes(session, exchange_id, error))
