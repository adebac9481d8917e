"""Experiments: check, create, read; start a run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app import idempotency, shapes
from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Cursor, ExperimentId, IdempotencyKey, Limit, Reader
from app.db import reading, writing
from app.experiments import estimates, experiments
from app.idempotency import Asked
from app.lifecycle import launching
from app.names import Name, Settings
from app.records import queries
from opcod.estimation.figures import Estimate

router = APIRouter(tags=["experiments"])


class NewExperiment(BaseModel):
    """What to run: a preset, a configuration, or a preset with a configuration laid over it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "first try", "preset": "tiny", "config": {"seed": 1}}]}
    )

    name: str | None = Field(None, description="What you call it; empty: the configuration's name.", max_length=200)
    preset: str | None = Field(None, description="A built-in preset, such as `demo` or `tiny`.", max_length=64)
    config: Settings | None = Field(None, description="The YAML file's model: all of it, or what differs from the preset.")


class NewRun(BaseModel):
    """How to call a run."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(None, description="What you call the run; empty: the experiment's name.")


@router.post(
    "/experiments",
    status_code=status.HTTP_201_CREATED,
    response_model=shapes.Experiment | shapes.Checked,
    responses={200: {"model": shapes.Experiment | shapes.Checked, "description": "A dry run's answer, or what the same key made before."}},
)
def create(
    body: NewExperiment,
    response: Response,
    engine: CurrentEngine,
    person: CurrentPerson,
    dry_run: Annotated[bool, Query(description="Check only, store nothing.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> shapes.Experiment | shapes.Checked:
    """Make an experiment. All that can be checked without loading a model is checked first: data files, students, templates."""
    asked = Asked(person.name, None if dry_run else idempotency_key, "experiment", body.model_dump(mode="json"))
    with reading(engine) as session:
        made = idempotency.earlier(session, asked)
    if made is None:
        config = experiments.check_experiment(body.name, body.preset, body.config)
        if dry_run:
            response.status_code = status.HTTP_200_OK
            with reading(engine) as session:
                estimate = estimates.estimate_of(session, config)
            return shapes.Checked(valid=True, config=config.model_dump(mode="json"), estimate=estimate)
        with writing(engine) as session:
            made, new = idempotency.once(session, asked, lambda: experiments.create(session, config, preset=body.preset))
    else:
        new = False
    if not new:
        response.status_code = status.HTTP_200_OK
    with reading(engine) as session:
        return queries.experiment(session, made)


@router.post("/experiments:estimate")
def estimate(body: NewExperiment, session: Reader) -> Estimate:
    """What an experiment will take: time, memory, disk and tokens, each with its 90 % interval. Nothing is stored.

    Times are fitted on completed runs of the device that a worker would train it on; a figure that cannot be known says why.
    """
    return estimates.estimate_of(session, experiments.check_experiment(body.name, body.preset, body.config))


@router.get("/experiments")
def experiment_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[shapes.Experiment]:
    """Experiments, newest first."""
    return queries.experiments(session, before=queries.cursor(cursor), limit=limit)


@router.get("/experiments/{experiment_id}")
def read(experiment_id: ExperimentId, session: Reader) -> shapes.Experiment:
    """One experiment."""
    return queries.experiment(session, experiment_id)


@router.post(
    "/experiments/{experiment_id}/runs",
    status_code=status.HTTP_201_CREATED,
    responses={200: {"model": shapes.Run, "description": "What the same key made before."}},
)
def start(
    experiment_id: ExperimentId,
    response: Response,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    body: NewRun | None = None,
    idempotency_key: IdempotencyKey = None,
) -> shapes.Run:
    """Queue a run of the experiment. Data and students are looked at again, since they may have gone meanwhile."""
    body = body or NewRun(name=None)
    asked = Asked(person.name, idempotency_key, f"run of experiment {experiment_id}", body.model_dump(mode="json"))
    run_id, new = launching.start(engine, settings.broker_url, experiment_id, name=body.name, actor=person.name, asked=asked)
    if not new:
        response.status_code = status.HTTP_200_OK
    with reading(engine) as session:
        return queries.run(session, run_id)
