"""Everything a run says of itself: a tagged union of events, each with its place in the run.

`seq` is a position, not a count (see `opcod.training.sequence`): a step that is run again after a
resume gives its events the same numbers, so that a store which keeps (run, seq) unique can be sent
any event twice. Events are emitted in rising order of `seq`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from opcod.types import BreakRescue, Evaluation, Exchange, GateDecision, Verdict


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seq: int = 0
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class RunStarted(_Event):
    """The students are loaded and the data is checked."""

    kind: Literal["run_started"] = "run_started"
    students: list[str]
    domains: list[str]
    rounds: int
    steps_per_round: int
    """Updates a student makes in a round."""
    questions: dict[str, dict[str, int]]
    """Domain -> split -> number of questions."""
    parameters: dict[str, int]
    """Student -> trainable parameters."""
    notes: list[str] = []
    """What was dropped or assumed while the data was read."""


class RoundStarted(_Event):
    kind: Literal["round_started"] = "round_started"
    round: int


class EvaluationFinished(_Event):
    kind: Literal["evaluation_finished"] = "evaluation_finished"
    evaluation: Evaluation


class GateDecided(_Event):
    kind: Literal["gate_decided"] = "gate_decided"
    decision: GateDecision


class PhaseStarted(_Event):
    """The tutee's phase of a round begins."""

    kind: Literal["phase_started"] = "phase_started"
    round: int
    tutee: str
    tutors: list[str]
    """Peers whose gate is open, on any domain."""


class ExchangeRecorded(_Event):
    kind: Literal["exchange_recorded"] = "exchange_recorded"
    exchange: Exchange


class StepFinished(_Event):
    """One update of a tutee. Metric names carry the student's prefix: ``student1/train/loss``."""

    kind: Literal["step_finished"] = "step_finished"
    round: int
    tutee: str
    step: int
    """The tutee's updates so far in the whole run, from 1."""
    metrics: dict[str, float]


class BreakRescueMeasured(_Event):
    kind: Literal["break_rescue_measured"] = "break_rescue_measured"
    result: BreakRescue


class PhaseFinished(_Event):
    kind: Literal["phase_finished"] = "phase_finished"
    round: int
    tutee: str


class CheckpointSaved(_Event):
    """A resumable state of all students; every event before it has been given to the sink."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    round: int
    steps: dict[str, int]
    """Student -> its updates so far."""
    path: str
    """Manifest file, relative to the run's folder."""
    size_bytes: int


class RunFinished(_Event):
    """The last round is done, the test sets are scored and the students exported."""

    kind: Literal["run_finished"] = "run_finished"
    verdict: Verdict
    exports: dict[str, str]
    """Student -> Hugging Face folder, relative to the run's folder."""


Event = Annotated[
    RunStarted
    | RoundStarted
    | EvaluationFinished
    | GateDecided
    | PhaseStarted
    | ExchangeRecorded
    | StepFinished
    | BreakRescueMeasured
    | PhaseFinished
    | CheckpointSaved
    | RunFinished,
    Field(discriminator="kind"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads an event from JSON: ``EVENT.validate_json(line)``."""


class EventSink(Protocol):
    """Where a run's events go."""

    def emit(self, event: Event) -> None:
        """Take one event; may buffer it."""

    def flush(self) -> None:
        """Return once every event emitted so far is durable. A checkpoint counts only after this."""


class StopSignal(Protocol):
    """Asked between steps."""

    def requested(self) -> bool:
        """True when the run should checkpoint and end."""
