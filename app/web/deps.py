"""What page endpoints are given beyond what REST's are, and how they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.errors import Conflict

MOST_FIELDS = 5_000
"""Of one form; the largest experiment needs under a thousand."""


async def _pairs(request: Request) -> list[tuple[str, str]]:
    form = await request.form(max_fields=MOST_FIELDS, max_files=0)
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


Pairs = Annotated[list[tuple[str, str]], Depends(_pairs)]
"""A sent form, names in order, repeated ones too."""


def wants_fragment(request: Request) -> bool:
    """Whether htmx asks, and will swap a part of the page."""
    return request.headers.get("hx-request") == "true"


def refusal(change: Callable[[], object]) -> Conflict | None:
    """Do it; what a run's state has against it."""
    try:
        change()
    except Conflict as conflict:
        return conflict
    return None


def go_to(request: Request, address: str) -> Response:
    """Send the browser on after a form."""
    if wants_fragment(request):
        return HTMLResponse("", headers={"HX-Redirect": address})
    return RedirectResponse(address, status_code=303)


def stream_start(last_event_id: str | None, after: int) -> int:
    """Where a stream goes on: what the browser heard last, if it comes back, goes before what the page was made with."""
    return int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 19 else after
