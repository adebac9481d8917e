"""Asking students something, two side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, status

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, CurrentSettings, Cursor, Limit, Reader
from app.db import reading
from app.library import chats
from app.library.chats import NewChat
from app.library.shapes import Chat
from app.lifecycle import asking
from app.records import queries

router = APIRouter(tags=["library"], route_class=ConditionalRoute)

JobId = Annotated[int, Path(description="The number that asking gave.", ge=1, le=LARGEST_ID)]


@router.post("/chats", status_code=status.HTTP_202_ACCEPTED)
def chat(body: NewChat, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Chat:
    """Ask one or two students a question on a worker; answers at once with the job that does it.

    A question of a domain is judged by its verifier. Read `/chats/{id}` until its state is `completed`, `failed` or `cancelled`.
    """
    job_id = asking.job(engine, settings.broker_url, lambda session: chats.ask(session, settings, body, person=person.name))
    with reading(engine) as session:
        return chats.chat(session, job_id)


@router.get("/chats")
def chat_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[Chat]:
    """What students were asked, the newest first."""
    return chats.listing(session, before=queries.cursor(cursor), limit=limit)


@router.get("/chats/{job_id}", **POLLED)
def read_chat(job_id: JobId, session: Reader) -> Chat:
    """One question, with the answers that there are so far."""
    return chats.chat(session, job_id)
