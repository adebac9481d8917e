"""Sweeps: check, launch, read, stop; the paper's ablations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app import idempotency, shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, CurrentSettings, Cursor, IdempotencyKey, Limit, Reader
from app.db import reading
from app.experiments import sweeps
from app.experiments.ablations import ABLATIONS
from app.experiments.sweep_points import MOST_POINTS, SweepPlan, axes, points
from app.idempotency import Asked
from app.names import Grid, Settings, SweepName
from app.records.queries import cursor as place_of

router = APIRouter(tags=["sweeps"], route_class=ConditionalRoute)

SweepId = Annotated[int, Path(description="The sweep's id.", ge=1, le=LARGEST_ID)]


class NewSweep(BaseModel):
    """What to vary over what; exactly one of `grid`, `overrides` and `ablation`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "tau", "preset": "tiny", "grid": {"method.gate.threshold": [0.1, 0.2, 0.4]}}]},
    )

    name: SweepName = Field(description="What you call it.")
    preset: str | None = Field(None, description="A built-in preset, such as `demo` or `tiny`.", max_length=64)
    config: Settings | None = Field(None, description="Settings of all points: all of them, or what differs from the preset.")
    grid: Grid | None = Field(
        None, description=f"Dotted path -> values; every combination is a point, {MOST_POINTS} at most.", max_length=8
    )
    overrides: list[Settings] | None = Field(
        None, description="Settings of each point, nested as in the YAML file.", max_length=MOST_POINTS
    )
    ablation: str | None = Field(None, description="A built-in sweep, such as `gates`; see `/ablations`.", max_length=64)


@router.get("/ablations")
def ablations() -> shapes.Listing[shapes.AblationShape]:
    """The paper's sweeps, to be laid over any preset."""
    return shapes.Listing(items=[shapes.AblationShape.model_validate(one) for one in ABLATIONS])


@router.post(
    "/sweeps",
    status_code=status.HTTP_201_CREATED,
    response_model=shapes.SweepDetail | shapes.SweepCheck,
    responses={
        200: {"model": shapes.SweepDetail | shapes.SweepCheck, "description": "A dry run's answer, or what the same key made before."}
    },
)
def launch(
    body: NewSweep,
    response: Response,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    dry_run: Annotated[bool, Query(description="Check only, store nothing.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> shapes.SweepDetail | shapes.SweepCheck:
    """Launch a sweep: every point an experiment with a run in the queue. All points are checked before any is stored.

    A fault names its point: `points.3.method.gate.threshold`.
    """
    plan = SweepPlan(**body.model_dump())
    asked = Asked(person.name, None if dry_run else idempotency_key, "sweep", body.model_dump(mode="json"))
    with reading(engine) as session:
        made = idempotency.earlier(session, asked)
    new = False
    if made is None:
        found = points(plan)
        if dry_run:
            response.status_code = status.HTTP_200_OK
            return shapes.SweepCheck(
                valid=True, axes=axes(found), points=[shapes.PlannedPoint(name=one.config.name, values=dict(one.values)) for one in found]
            )
        made, new = sweeps.start(engine, settings.broker_url, plan, found, owner=person.name, asked=asked)
    if not new:
        response.status_code = status.HTTP_200_OK
    with reading(engine) as session:
        return sweeps.read(session, made)


@router.get("/sweeps", **POLLED)
def sweep_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[shapes.Sweep]:
    """Sweeps, newest first."""
    return sweeps.listing(session, before=place_of(cursor), limit=limit)


@router.get("/sweeps/{sweep_id}", **POLLED)
def read(sweep_id: SweepId, session: Reader) -> shapes.SweepDetail:
    """A sweep with its points: what each varies, and how its run stands."""
    return sweeps.read(session, sweep_id)


@router.get(
    "/sweeps/{sweep_id}/table",
    response_class=Response,
    responses={200: {"description": "The table.", "content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def table(sweep_id: SweepId, session: Reader) -> Response:
    """Values, scores and verdicts as CSV, one line for each point, student and domain."""
    name = f'attachment; filename="sweep-{sweep_id}.csv"'
    return Response(sweeps.csv(sweeps.read(session, sweep_id)), media_type="text/csv", headers={"Content-Disposition": name})


@router.post("/sweeps/{sweep_id}:stop")
def stop(sweep_id: SweepId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.SweepDetail:
    """Stop every run of the sweep that has not ended; those that wait stop at once. Each can be resumed by itself."""
    sweeps.stop(engine, settings.broker_url, sweep_id, actor=person.name)
    with reading(engine) as session:
        return sweeps.read(session, sweep_id)
