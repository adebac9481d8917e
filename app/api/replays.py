"""Asking an exchange's self-teacher again: replays, and the jobs that carry them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response, status

from app import shapes
from app.api.conditional import ConditionalRoute
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, CurrentSettings, Cursor, Limit, Reader
from app.api.exchanges import ExchangeId
from app.db import reading, writing
from app.lifecycle import asking, jobs
from app.records import queries, replays
from app.records.replays import Asked

router = APIRouter(tags=["exchanges"], route_class=ConditionalRoute)

JobId = Annotated[int, Path(description="The job's number.", ge=1, le=LARGEST_ID)]


@router.post("/exchanges/{exchange_id}:replay", status_code=status.HTTP_202_ACCEPTED)
def replay(exchange_id: ExchangeId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, body: Asked) -> shapes.Replay:
    """Ask the exchange's self-teacher again on a worker, with other words in its context; answers at once with the job that does it.

    Three arms, as far as they differ: the question alone, with what it was shown then, with what it is shown now. Read
    `/replays/{id}` until its state is `completed`, `failed` or `cancelled`.
    """
    job_id = asking.replay(engine, settings.broker_url, exchange_id, body, person=person.name)
    with reading(engine) as session:
        return replays.replay(session, job_id)


@router.get("/exchanges/{exchange_id}/replays")
def replay_list(exchange_id: ExchangeId, session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[shapes.Replay]:
    """The exchange's replays, the newest first."""
    return replays.of_exchange(session, exchange_id, before=queries.cursor(cursor), limit=limit)


@router.get("/replays/{job_id}")
def read_replay(job_id: JobId, session: Reader) -> shapes.Replay:
    """One replay, with what there is of it so far."""
    return replays.replay(session, job_id)


@router.post("/jobs/{job_id}:cancel", status_code=status.HTTP_204_NO_CONTENT)
def cancel_job(job_id: JobId, engine: CurrentEngine) -> Response:
    """Give up a job, such as a replay, that waits or is under way; what it has found so far stays."""
    with writing(engine) as session:
        jobs.cancel(session, job_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)
