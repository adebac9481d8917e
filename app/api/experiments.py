"""Experiments: check, create, read; start a run."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app import experiments, launching, queries, shapes
from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Cursor, ExperimentId, Limit, Reader
from app.db import reading, writing

router = APIRouter(tags=["experiments"])


class NewExperiment(BaseModel):
    """What to run: a preset, a configuration, or a preset with a configuration laid over it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "first try", "preset": "tiny", "config": {"seed": 1}}]}
    )

    name: str | None = Field(None, description="What you call it; empty: the configuration's name.", max_length=200)
    preset: str | None = Field(None, description="A built-in preset, such as `demo` or `tiny`.", max_length=64)
    config: dict[str, Any] | None = Field(None, description="The YAML file's model: all of it, or what differs from the preset.")


class NewRun(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="What you call the run; empty: the experiment's name.", max_length=200)


@router.post("/experiments", status_code=status.HTTP_201_CREATED, response_model=shapes.Experiment | shapes.Checked)
def create(
    body: NewExperiment,
    response: Response,
    engine: CurrentEngine,
    dry_run: Annotated[bool, Query(description="Check only, store nothing.")] = False,
    idempotency_key: Annotated[
        str | None, Header(description="A request that is sent again with the same key makes no second experiment.", max_length=200)
    ] = None,
) -> shapes.Experiment | shapes.Checked:
    """Make an experiment. All that can be checked without loading a model is checked first: data files, students, templates."""
    config = experiments.check_experiment(body.name, body.preset, body.config)
    if dry_run:
        response.status_code = status.HTTP_200_OK
        return shapes.Checked(valid=True, config=config.model_dump(mode="json"))
    with writing(engine) as session:
        experiment, new = experiments.create(session, config, preset=body.preset, idempotency_key=idempotency_key)
    if not new:
        response.status_code = status.HTTP_200_OK
    return shapes.Experiment.model_validate(experiment)


@router.get("/experiments")
def experiment_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[shapes.Experiment]:
    """Experiments, newest first."""
    return queries.experiments(session, before=queries.cursor(cursor), limit=limit)


@router.get("/experiments/{experiment_id}")
def read(experiment_id: ExperimentId, session: Reader) -> shapes.Experiment:
    """One experiment."""
    return queries.experiment(session, experiment_id)


@router.post("/experiments/{experiment_id}/runs", status_code=status.HTTP_201_CREATED)
def start(
    experiment_id: ExperimentId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, body: NewRun | None = None
) -> shapes.Run:
    """Queue a run of the experiment. Data and students are looked at again, since they may have gone meanwhile."""
    run_id = launching.start(engine, settings.broker_url, experiment_id, name=body.name if body else None, actor=person.name)
    with reading(engine) as session:
        return queries.run(session, run_id)
