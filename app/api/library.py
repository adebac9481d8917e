"""Domains and workers that the service knows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import LARGEST_ID, Cursor, Limit, Reader
from app.lifecycle import workers
from app.records import queries
from app.records.library_checks import check_domain

DomainId = Annotated[int, Path(description="The domain's id.", ge=1, le=LARGEST_ID)]

router = APIRouter(tags=["library"], route_class=ConditionalRoute)


@router.get("/domains")
def domain_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[shapes.DomainShape]:
    """Domains that experiments named, newest first."""
    return queries.domains(session, before=queries.cursor(cursor), limit=limit)


@router.get("/domains/{domain_id}/check")
def domain_check(domain_id: DomainId, session: Reader) -> shapes.DomainCheck:
    """What is in a domain's files, read now: counts, answers, lengths, and what is wrong with them."""
    return check_domain(session, domain_id)


@router.get("/workers", **POLLED)
def worker_list(session: Reader) -> shapes.Listing[shapes.Worker]:
    """Workers that live."""
    return shapes.Listing(items=[shapes.Worker.model_validate(row) for row in workers.alive(session)])
