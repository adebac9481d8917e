"""Pre-flights: look at an experiment on a worker before it is launched."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, status
from pydantic import Field

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, CurrentSettings, Cursor, Limit, Reader
from app.api.experiments import NewExperiment
from app.db import reading
from app.experiments import experiments, preflights
from app.experiments.preflight_shapes import ForetoldRun, PreflightJob
from app.records import foretold, queries
from opcod.preflight.findings import PreflightSize

router = APIRouter(tags=["experiments"], route_class=ConditionalRoute)

PreflightId = Annotated[int, Path(description="The pre-flight's number, which is that of its job.", ge=1, le=LARGEST_ID)]


class NewPreflight(NewExperiment):
    """What to look at: a preset, a configuration, or a preset with a configuration laid over it."""

    size: PreflightSize = Field(PreflightSize(), description="How much is sampled.")


@router.post("/preflights", status_code=status.HTTP_202_ACCEPTED)
def preflight(body: NewPreflight, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> PreflightJob:
    """Let a worker validate the students, work out gaps and gates, and ask for feedback on a sample of questions. Nothing is trained.

    Answers at once with the job that does it. Read `/preflights/{id}` until its state is `completed`, `failed` or `cancelled`;
    give it up with `/jobs/{id}:cancel`.
    """
    config = experiments.check_experiment(body.name, body.preset, body.config)
    made = preflights.start(engine, settings.broker_url, config, body.size, owner=person.name)
    with reading(engine) as session:
        return preflights.read(session, made)


@router.get("/preflights")
def preflight_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[PreflightJob]:
    """Pre-flights, newest first, without what they found."""
    return preflights.listing(session, before=queries.cursor(cursor), limit=limit)


@router.get("/preflights/{preflight_id}", **POLLED)
def read_preflight(preflight_id: PreflightId, session: Reader) -> PreflightJob:
    """One pre-flight; with what it found, once it is completed."""
    return preflights.read(session, preflight_id)


@router.get("/preflights/{preflight_id}/runs")
def preflight_runs(preflight_id: PreflightId, session: Reader) -> shapes.Listing[ForetoldRun]:
    """The newest runs that were launched from its settings after it was completed: what it foretold beside what they recorded."""
    return shapes.Listing(items=foretold.runs_of(session, preflight_id))
