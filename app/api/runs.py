"""Runs: list, read, change, pause, stop, resume, retry, clone; the queue."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import status as status_codes
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import (
    LARGEST_ID,
    CurrentEngine,
    CurrentPerson,
    CurrentSettings,
    Cursor,
    IdempotencyKey,
    Limit,
    Order,
    Reader,
    RunId,
)
from app.db import reading
from app.idempotency import Asked
from app.lifecycle import launching
from app.lifecycle.statuses import RunStatus
from app.names import Name, Settings, Tag
from app.records import queries, report_text, reports

router = APIRouter(tags=["runs"], route_class=ConditionalRoute)


class RunChange(BaseModel):
    """What may change of a run."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"tags": ["ablation", "tau 0.2"], "archived": False}]})

    name: Name | None = Field(None, description="What you call it.")
    tags: list[Tag] | None = Field(None, description="All of its tags.", max_length=32)
    archived: bool | None = Field(None, description="Leave it out of lists, or show it again.")
    priority: int | None = Field(None, description="Higher goes first in the queue; 0 is usual.", ge=-100, le=100)


class Retry(BaseModel):
    """How to do it over."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"start": "afresh"}]})

    start: Literal["checkpoint", "afresh"] = Field("checkpoint", description="Go on from the last checkpoint, or begin a new run.")


class Clone(BaseModel):
    """What differs from the run that is copied."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "tau 0.4", "config": {"method": {"gate": {"threshold": 0.4}}}}]}
    )

    name: Name | None = Field(None, description="What you call it; empty: the same.")
    config: Settings | None = Field(None, description="Settings that differ; lists are replaced whole.")


class Move(BaseModel):
    """A place in the queue."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"position": 1}]})

    position: int = Field(description="1 is next; beyond the end means last.", ge=1, le=1_000_000)


@router.get("/runs", **POLLED)
def run_list(
    session: Reader,
    status: Annotated[list[RunStatus] | None, Query(description="Only these; repeat it for more.")] = None,
    experiment: Annotated[int | None, Query(description="Only runs of this experiment.", ge=1, le=LARGEST_ID)] = None,
    search: Annotated[str, Query(description="Only runs whose name has this text.", max_length=200)] = "",
    tag: Annotated[list[Tag] | None, Query(description="Only runs with this tag; repeat it for those that have them all.")] = None,
    owner: Annotated[str | None, Query(description="Only this person's runs.", max_length=200)] = None,
    archived: Annotated[bool | None, Query(description="Only archived runs, or only the others, which is the default.")] = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> shapes.Listing[shapes.Run]:
    """Runs, newest first."""
    return queries.run_list(
        session,
        statuses=status or (),
        experiment_id=experiment,
        search=search,
        owner=owner,
        tags=tag or (),
        archived=archived,
        before=queries.cursor(cursor),
        limit=limit,
    )


@router.get("/queue", **POLLED)
def queue(session: Reader, cursor: Cursor = None, limit: Limit = 200) -> shapes.Listing[shapes.Run]:
    """Waiting runs, the next one first. Owners take turns; a higher priority goes before them."""
    return queries.queue(session, after=cursor, limit=limit)


@router.get("/runs/{run_id}", **POLLED)
def read(run_id: RunId, session: Reader) -> shapes.Run:
    """One run."""
    return queries.run(session, run_id)


@router.patch("/runs/{run_id}")
def change(run_id: RunId, body: RunChange, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.Run:
    """Rename, tag, archive a run, or give it another priority. What is left out stays."""
    values = body.model_dump(exclude_unset=True, exclude_none=True)
    launching.change(engine, settings.broker_url, run_id, values, may_rank=person.is_admin)
    return _read(engine, run_id)


@router.post("/runs/{run_id}:pause")
def pause(run_id: RunId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.Run:
    """Pause a run: at once while it waits, at its next checkpoint while it trains. Its worker is free for others until it is resumed."""
    launching.pause(engine, settings.broker_url, run_id, actor=person.name)
    return _read(engine, run_id)


@router.post("/runs/{run_id}:stop")
def stop(run_id: RunId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.Run:
    """Stop a run: at once while it waits or is paused, at its next checkpoint while it trains. It can be resumed."""
    launching.stop(engine, settings.broker_url, run_id, actor=person.name)
    return _read(engine, run_id)


@router.post("/runs/{run_id}:resume")
def resume(run_id: RunId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.Run:
    """Queue a paused, stopped, failed or completed run again; it goes on from its last checkpoint."""
    launching.resume(engine, settings.broker_url, run_id, actor=person.name)
    return _read(engine, run_id)


@router.post("/runs/{run_id}:retry")
def retry(run_id: RunId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, body: Retry | None = None) -> shapes.Run:
    """Do an ended run over, from its last checkpoint or afresh; returns the run that waits. One that is under way refuses a second."""
    afresh = body is not None and body.start == "afresh"
    return _read(engine, launching.retry(engine, settings.broker_url, run_id, afresh=afresh, actor=person.name))


@router.post(
    "/runs/{run_id}:clone",
    status_code=status_codes.HTTP_201_CREATED,
    responses={200: {"model": shapes.Run, "description": "What the same key made before."}},
)
def clone(
    run_id: RunId,
    response: Response,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    body: Clone | None = None,
    idempotency_key: IdempotencyKey = None,
) -> shapes.Run:
    """A new run with the same settings, or with some that differ."""
    body = body or Clone(name=None, config=None)
    asked = Asked(person.name, idempotency_key, f"clone of run {run_id}", body.model_dump(mode="json"))
    made, new = launching.clone(engine, settings.broker_url, run_id, overrides=body.config, name=body.name, actor=person.name, asked=asked)
    if not new:
        response.status_code = status_codes.HTTP_200_OK
    return _read(engine, made)


@router.post("/runs/{run_id}:move")
def move(run_id: RunId, body: Move, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.Run:
    """Put a waiting run at a place in the queue. Its priority becomes its new neighbours' where it has to."""
    launching.move(engine, settings.broker_url, run_id, body.position)
    return _read(engine, run_id)


@router.delete("/runs/{run_id}", status_code=status_codes.HTTP_204_NO_CONTENT)
def delete(run_id: RunId, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> None:
    """Delete a run with all that it left behind; a waiting one leaves the queue. One that a worker holds refuses: stop it first."""
    launching.delete(engine, settings.broker_url, run_id, actor=person.name)


def _read(engine: Engine, run_id: int) -> shapes.Run:
    with reading(engine) as session:
        return queries.run(session, run_id)


@router.get("/runs/{run_id}/transitions")
def transitions(
    run_id: RunId, session: Reader, order: Order = "oldest", cursor: Cursor = None, limit: Limit = 500
) -> shapes.Listing[shapes.Transition]:
    """Every change of the run's status."""
    queries.run_row(session, run_id)
    return queries.transitions(session, run_id, after=queries.cursor(cursor), newest_first=order == "newest", limit=limit)


ReportFormat = Literal["json", "markdown", "csv", "latex"]
_REPORTS: dict[ReportFormat, str] = {
    "json": "application/json",
    "markdown": "text/markdown",
    "csv": "text/csv",
    "latex": "application/x-latex",
}


@router.get(
    "/runs/{run_id}/report",
    response_model=shapes.Report,
    responses={200: {"content": {kind: {"schema": {"type": "string"}} for kind in _REPORTS.values() if kind != "application/json"}}},
)
def report(
    run_id: RunId,
    request: Request,
    session: Reader,
    format: Annotated[ReportFormat | None, Query(description="What to answer with; goes before `Accept`. JSON where neither says.")] = None,
    compare: Annotated[
        list[Annotated[int, Field(ge=1, le=LARGEST_ID)]] | None,
        Query(description="Runs whose scores stand beside: repeat it for more.", max_length=reports.MOST_COMPARED),
    ] = None,
) -> shapes.Report | Response:
    """The run in one document: scores with intervals as in the paper's Table 1, settings, gate, feedback, break and rescue, time.

    With `compare`, the table has a column for each of those runs and says what differs in their settings: a table of ablations.
    """
    found = reports.report(session, run_id, compare=compare or ())
    wanted = format or _accepted(request.headers.get("accept", ""))
    if wanted == "json":
        return found
    text = {"markdown": report_text.markdown, "csv": report_text.csv, "latex": report_text.latex}[wanted](found)
    return Response(text, media_type=f"{_REPORTS[wanted]}; charset=utf-8", headers={"Vary": "Accept"})


def _accepted(accept: str) -> ReportFormat:
    """The first format that `Accept` names; JSON where it names none of ours."""
    for named in accept.lower().split(","):
        kind = named.partition(";")[0].strip()
        for format, media_type in _REPORTS.items():
            if kind == media_type:
                return format
    return "json"
