"""Making specialists: base students fine-tuned on a domain by a worker."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, status

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, CurrentSettings, Cursor, Limit, Reader
from app.db import reading
from app.library import specialists
from app.library.shapes import Specialist
from app.library.specialists import NewSpecialist
from app.lifecycle import asking
from app.records import queries

router = APIRouter(tags=["library"], route_class=ConditionalRoute)

JobId = Annotated[int, Path(description="The number that asking for it gave.", ge=1, le=LARGEST_ID)]


@router.post("/specialists", status_code=status.HTTP_202_ACCEPTED)
def make_specialist(body: NewSpecialist, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Specialist:
    """Fine-tune a base student on a domain's training questions, on a worker; answers at once with the job that does it.

    Read `/specialists/{id}` until its state is `completed`, `failed` or `cancelled`; `/jobs/{id}:cancel` gives it up. What is
    made stands in `/students` then, and can be named in experiments.
    """
    job_id = asking.job(engine, settings.broker_url, lambda session: specialists.ask(session, body, person=person.name))
    with reading(engine) as session:
        return specialists.specialist(session, job_id)


@router.get("/specialists")
def specialist_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[Specialist]:
    """Specialists that are being made or were, the newest first."""
    return specialists.listing(session, before=queries.cursor(cursor), limit=limit)


@router.get("/specialists/{job_id}", **POLLED)
def read_specialist(job_id: JobId, session: Reader) -> Specialist:
    """One of them: its loss so far, its scores before and after, its log."""
    return specialists.specialist(session, job_id)
