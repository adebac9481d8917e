"""Students, domains and workers that the service knows."""

from __future__ import annotations

from fastapi import APIRouter

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import CurrentSettings, Cursor, Limit, Reader
from app.lifecycle import workers
from app.records import queries

router = APIRouter(tags=["library"], route_class=ConditionalRoute)


@router.get("/students")
def student_list(
    session: Reader, settings: CurrentSettings, cursor: Cursor = None, limit: Limit = 50
) -> shapes.Listing[shapes.StudentShape]:
    """Students that experiments named or runs made, newest first."""
    known = queries.students(session, before=queries.cursor(cursor), limit=limit)
    for student in known.items:
        if student.run_id is not None:
            student.model = str(settings.runs_folder / student.model)
    return known


@router.get("/domains")
def domain_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[shapes.DomainShape]:
    """Domains that experiments named, newest first."""
    return queries.domains(session, before=queries.cursor(cursor), limit=limit)


@router.get("/workers", **POLLED)
def worker_list(session: Reader) -> shapes.Listing[shapes.Worker]:
    """Workers that live."""
    return shapes.Listing(items=[shapes.Worker.model_validate(row) for row in workers.alive(session)])
