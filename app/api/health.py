"""Whether the service lives, and whether it can do its work."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app import workers
from app.api.dependencies import CurrentBell, CurrentEngine
from app.db import reading

router = APIRouter(tags=["health"])


class Live(BaseModel):
    status: Literal["live"] = "live"


class Ready(BaseModel):
    """`ready` says whether requests can be served; `reasons` what is missing or slow."""

    ready: bool
    reasons: list[str] = Field(description="In words; may name what only slows things down.")


@router.get("/health/live")
def live() -> Live:
    """The process answers."""
    return Live()


@router.get("/health")
@router.get("/health/ready", responses={503: {"model": Ready}})
def ready(response: Response, engine: CurrentEngine, bell: CurrentBell) -> Ready:
    """The database answers. A broker that is away, or no worker, is told as a reason and refuses nothing."""
    reasons = []
    try:
        with reading(engine) as session:
            if not workers.alive(session):
                reasons.append("No worker is connected: runs wait.")
    except SQLAlchemyError:
        response.status_code = 503
        return Ready(ready=False, reasons=["The database does not answer."])
    if not bell.hears:
        reasons.append("The broker does not answer: pages and workers ask the database instead.")
    return Ready(ready=True, reasons=reasons)
