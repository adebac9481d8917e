"""Whether the service lives, and whether it can do its work."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from app.api.dependencies import CurrentBell, CurrentEngine, CurrentSettings
from app.telemetry.health import Pulse, Reason
from app.telemetry.health import reasons as find_reasons

router = APIRouter(tags=["health"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = Field("live", description="Always this.")


class Ready(BaseModel):
    """`ready` says whether requests can be served; the reasons what is missing or slow."""

    ready: bool = Field(description="Whether requests can be served.")
    reasons: list[str] = Field(description="In words; may name what only slows things down.")
    problems: list[Reason] = Field(description="The same for programs.")


async def _pulse(request: Request) -> Pulse:
    pulse: Pulse = request.app.state.pulse
    return pulse


@router.get("/health/live")
async def live() -> Live:
    """The process answers."""
    return Live()


@router.get("/health", name="health", responses={503: {"model": Ready}})
@router.get("/health/ready", responses={503: {"model": Ready}})
def ready(
    response: Response, engine: CurrentEngine, bell: CurrentBell, settings: CurrentSettings, pulse: Annotated[Pulse, Depends(_pulse)]
) -> Ready:
    """The database answers and has this version's schema. What only slows things down is told and refuses nothing."""
    found = find_reasons(engine, bell, pulse, settings)
    blocked = any(reason.blocking for reason in found)
    if blocked:
        response.status_code = 503
    return Ready(ready=not blocked, reasons=[reason.message for reason in found], problems=found)
