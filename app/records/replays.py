"""Replays of an exchange: what may be asked, what was, and what came of it. Each is a job and stays beside the exchange."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from app import shapes
from app.errors import Fault, Invalid
from app.lifecycle import jobs
from app.lifecycle.queueing import needs_of
from app.records.exchange_queries import exchange_row
from app.records.jobs_read import error_of, job_of_kind, newest_first
from app.records.queries import run_row
from app.tables import CheckpointRow, ExchangeRow, ExperimentRow, FeedbackRow, JobRow, RunRow

KIND = "replay"
MOST_SAMPLES = 64
LONGEST_FEEDBACK = 20_000
_CHECKPOINT = re.compile(r"checkpoint:([1-9][0-9]{0,8})")
Weights = Annotated[str, Field(pattern=r"^(initial|exported|checkpoint:[1-9][0-9]{0,8})$")]


class Asked(BaseModel):
    """What to ask the self-teacher again, and how."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"feedback": "The density of iron is right; add before you answer.", "samples": 8}]}
    )

    feedback: str | None = Field(
        None,
        description="Feedback to show in place of the recorded one. Null: the recorded one, if it was kept; empty: none.",
        max_length=LONGEST_FEEDBACK,
    )
    own_solution: bool = Field(True, description="Whether to show the tutee's own solution, where it had one.")
    weights: Weights | None = Field(
        None,
        description="Whose self-teacher: `checkpoint:ID` of a checkpoint of the run that is whole, `initial` for the student as it came, "
        "`exported` for the student as the run left it. Null: the newest that there is.",
    )
    samples: int = Field(8, description="Answers to sample to each prompt.", ge=1, le=MOST_SAMPLES)

    @property
    def checkpoint_id(self) -> int | None:
        """The checkpoint that is asked for."""
        found = _CHECKPOINT.fullmatch(self.weights or "")
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class WeightsChoice:
    """Weights that a replay can be asked of."""

    value: str
    label: str


def kept_text(said: FeedbackRow | None) -> str | None:
    """The feedback that the self-teacher was shown then; dropped feedback never was."""
    return said.text if said is not None and said.outcome == "kept" else None


def choices(session: Session, exchange: ExchangeRow) -> list[WeightsChoice]:
    """The weights that there are, the newest first."""
    found = []
    run = session.get(RunRow, exchange.run_id)
    if run is not None and run.status == "completed":
        found.append(WeightsChoice("exported", "as the run left it"))
    whole = select(CheckpointRow).where(col(CheckpointRow.run_id) == exchange.run_id, col(CheckpointRow.state) == "whole")
    for row in session.exec(whole.order_by(col(CheckpointRow.seq).desc())).all():
        found.append(WeightsChoice(f"checkpoint:{row.id}", f"checkpoint of round {row.round}, step {row.steps.get(exchange.tutee, 0)}"))
    return [*found, WeightsChoice("initial", "as it came, before training")]


def ask(session: Session, exchange_id: int, asked: Asked, *, person: str) -> int:
    """Put a replay on the list of jobs; returns its number.

    Raises:
        NotFound
        Invalid: there are no such weights.
        Refused: too many jobs of this person wait.
    """
    exchange = exchange_row(session, exchange_id)
    run = run_row(session, exchange.run_id)
    experiment = session.get(ExperimentRow, run.experiment_id)
    assert experiment is not None
    there = [choice.value for choice in choices(session, exchange)]
    weights = asked.weights or there[0]
    if weights not in there:
        raise Invalid([Fault("weights", f"The run has no {weights!r} any more.", f"Choose one of {', '.join(there)}.")])
    request = asked.model_copy(update={"weights": weights}).model_dump()
    job = jobs.create(session, KIND, owner=person, needs=needs_of(experiment.config), request=request, exchange_id=exchange_id)
    assert job.id is not None
    return job.id


def replay(session: Session, job_id: int) -> shapes.Replay:
    """One replay.

    Raises:
        NotFound
    """
    return _shape(job_of_kind(session, KIND, job_id))


def of_exchange(session: Session, exchange_id: int, *, before: int | None = None, limit: int = 50) -> shapes.Listing[shapes.Replay]:
    """An exchange's replays, the newest first.

    Raises:
        NotFound
    """
    exchange_row(session, exchange_id)
    rows = select(JobRow).where(col(JobRow.exchange_id) == exchange_id, col(JobRow.kind) == KIND)
    return newest_first(session, rows, _shape, before=before, limit=limit)


def _shape(job: JobRow) -> shapes.Replay:
    asked, result = Asked.model_validate(job.request), job.result or {}
    arms = [shapes.ReplayArm.model_validate(arm) for arm in result.get("arms", [])]
    accuracies = {arm.name: arm.accuracy for arm in arms}
    assert job.id is not None
    assert job.exchange_id is not None
    return shapes.Replay(
        id=job.id,
        exchange_id=job.exchange_id,
        state=job.state,
        owner=job.owner,
        asked=shapes.ReplayAsked.model_validate(asked.model_dump()),
        progress=job.progress,
        planned=result.get("planned", []),
        arms=arms,
        change=accuracies["edited"] - accuracies.get("recorded", accuracies["question"]) if "edited" in accuracies else None,
        note=result.get("note", ""),
        error=error_of(job),
        worker=job.worker,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )
