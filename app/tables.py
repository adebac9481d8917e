"""The tables. Row classes end in `Row`, so that a noun of the method never means a table.

Numbers of a run's rows rise in the order in which they become visible: every writer locks the run's
row first, so that `id` is a cursor that misses nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, Index, Text, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

from app.columns import BIG_INTEGER, UtcDateTime
from app.db import now

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = SQLModel.metadata
UNENDED = text("ended_at IS NULL")
NEVER_REUSED = {"sqlite_autoincrement": True}


class ExperimentRow(SQLModel, table=True):
    """What to run. Never changed once made."""

    __tablename__: ClassVar[str] = "experiments"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    name: str
    preset: str | None = None
    config: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class RunRow(SQLModel, table=True):
    """The running of an experiment. `status` and `attempt_id` change in `app.runs` only."""

    __tablename__: ClassVar[str] = "runs"
    __table_args__: ClassVar[Any] = (Index(None, "status", "priority", "turn", "id"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    experiment_id: int = Field(foreign_key="experiments.id", index=True)
    name: str
    owner: str = Field(default="user", index=True, sa_column_kwargs={"server_default": "user"})
    """Who launched it, by name."""
    tags: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs={"server_default": "[]"})
    archived: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    """Out of sight in lists, until asked for."""
    copied_from: int | None = None
    """The run that it is a clone or a retry of; it may have been deleted since."""
    retried_as: int | None = None
    """The newest run that was made to do it over again."""
    folder: str
    """Relative to the folder of all runs."""
    status: str
    attempt_id: int | None = None
    """The attempt that holds the run: its fencing token. None while nobody does."""
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    queued_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when it waits."""
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """The queue's order: highest priority first, then the lowest turn (see `app.queueing`), then the oldest."""
    turn: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    needs_device: str | None = None
    """`gpu` or `cpu`: it waits for a worker with that label. None: any will do."""
    needs_memory_gib: float | None = None
    """It waits for a GPU with at least so much memory."""
    needs_gpus: int | None = None
    """It waits for a worker with at least so many GPUs. None: one will do, if it needs any."""
    rung_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When workers were last told of it."""
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    error_kind: str | None = None
    error_message: str | None = Field(default=None, sa_type=Text)
    error_advice: str | None = Field(default=None, sa_type=Text)
    round: int = 0
    rounds: int = 0
    steps_per_round: int = 0
    phase: str | None = None
    """Who is the tutee."""
    steps_done: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    """Student -> its updates so far."""
    steps_total: int = 0
    verdict: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    size_bytes: int = Field(default=0, sa_type=BIG_INTEGER)
    """What its artefacts take in the store, as its worker last measured it."""
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Set: nobody sees the run any more, and its rows are being removed (`app.retention`)."""


class EstimateRow(SQLModel, table=True):
    """What was expected of a run when it was launched."""

    __tablename__: ClassVar[str] = "estimates"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    estimate: dict[str, Any] = Field(sa_type=JSON)
    """What it would take: `opcod.estimation.figures.Estimate` as plain data."""
    preflight_id: int | None = Field(default=None, foreign_key="jobs.id", index=True)
    """The newest pre-flight of its settings that had been completed by then."""
    made_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class AttemptRow(SQLModel, table=True):
    """One worker's hold on a run. Its id is the fencing token."""

    __tablename__: ClassVar[str] = "attempts"
    __table_args__: ClassVar[Any] = (
        Index(
            "ux_attempts_device_key",
            "device_key",
            unique=True,
            sqlite_where=UNENDED,
            postgresql_where=UNENDED,
        ),
        NEVER_REUSED,
    )
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", index=True)
    worker: str
    device: str
    device_key: str | None = None
    """What no two attempts may hold at once: the GPU. None: a CPU, which is shared."""
    started_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    renewed_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    outcome: str | None = None
    """completed, stopped, paused, failed, released, killed or lapsed."""
    new_events: int = 0
    """Events it brought that were not known before: whether it got anywhere."""


class TransitionRow(SQLModel, table=True):
    """One change of a run's status."""

    __tablename__: ClassVar[str] = "transitions"
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", index=True)
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    from_status: str | None = None
    to_status: str
    cause: str
    actor: str
    traceparent: str | None = None
    """Of the request that queued the run, where requests are traced (`app.tracing`)."""


class EventRow(SQLModel, table=True):
    """The live stream: one row for each training event and each change of status, small facts only."""

    __tablename__: ClassVar[str] = "events"
    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "seq"), Index(None, "run_id", "id"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_INTEGER)
    run_id: int = Field(foreign_key="runs.id")
    seq: int | None = Field(default=None, sa_type=BIG_INTEGER)
    """Place in the run; None for a change of status."""
    kind: str
    data: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    at: datetime = Field(sa_type=UtcDateTime)


class RoundRow(SQLModel, table=True):
    __tablename__: ClassVar[str] = "rounds"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    round: int = Field(primary_key=True)
    seq: int = Field(sa_type=BIG_INTEGER)
    started_at: datetime = Field(sa_type=UtcDateTime)


class PhaseRow(SQLModel, table=True):
    """One student's turn as the tutee within a round."""

    __tablename__: ClassVar[str] = "phases"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    round: int = Field(primary_key=True)
    tutee: str = Field(primary_key=True)
    tutors: list[str] = Field(default_factory=list, sa_type=JSON)
    seq: int = Field(sa_type=BIG_INTEGER)
    started_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class StepRow(SQLModel, table=True):
    """One update of a tutee."""

    __tablename__: ClassVar[str] = "steps"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    student: str = Field(primary_key=True)
    step: int = Field(primary_key=True)
    round: int
    seq: int = Field(sa_type=BIG_INTEGER)
    attempt_id: int
    at: datetime = Field(sa_type=UtcDateTime)


class MetricRow(SQLModel, table=True):
    """One point of one curve."""

    __tablename__: ClassVar[str] = "metrics"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("run_id", "seq", "name"),
        Index(None, "run_id", "id"),
        Index(None, "run_id", "name", "id"),
        Index(None, "run_id", "name", "step"),
        NEVER_REUSED,
    )
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_INTEGER)
    run_id: int = Field(foreign_key="runs.id")
    seq: int = Field(sa_type=BIG_INTEGER)
    name: str
    step: int
    round: int
    value: float
    at: datetime = Field(sa_type=UtcDateTime)


class ExchangeRow(SQLModel, table=True):
    """One rollout with its question and what the self-teacher was shown. Siblings share (tutee, step, group)."""

    __tablename__: ClassVar[str] = "exchanges"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("run_id", "seq"),
        Index(None, "run_id", "id"),
        Index(None, "run_id", "round", "id"),
        Index(None, "run_id", "step", "tutee", "id"),
        Index(None, "run_id", "outcome", "id"),
        Index(None, "run_id", "effect", "id"),
        Index(None, "run_id", "question_id", "id"),
        NEVER_REUSED,
    )
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_INTEGER)
    run_id: int = Field(foreign_key="runs.id")
    seq: int = Field(sa_type=BIG_INTEGER)
    round: int
    step: int
    group: int
    tutee: str
    tutor: str | None = None
    domain: str
    question_id: str
    question_prompt: str = Field(sa_type=Text)
    question_answer: str = Field(sa_type=Text)
    rollout_index: int
    rollout_text: str = Field(sa_type=Text)
    rollout_tokens: int
    correct: bool
    extracted: str | None = Field(default=None, sa_type=Text)
    truncated: bool
    own_solution: str | None = Field(default=None, sa_type=Text)
    teacher_prompt: str | None = Field(default=None, sa_type=Text)
    in_loss: bool
    divergence_mean: float | None = None
    divergence_max: float | None = None
    outcome: str | None = None
    """The feedback's, repeated here to be filtered by."""
    again_text: str | None = Field(default=None, sa_type=Text)
    """The tutee's answer with the kept feedback in its prompt, where the step measured breaks."""
    again_correct: bool | None = None
    again_extracted: str | None = Field(default=None, sa_type=Text)
    effect: str | None = None
    """`break` or `rescue`: right turned wrong with the feedback, or wrong turned right."""


class FeedbackRow(SQLModel, table=True):
    """What the tutor said in the exchange with the same (run_id, seq)."""

    __tablename__: ClassVar[str] = "feedbacks"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    seq: int = Field(sa_type=BIG_INTEGER, primary_key=True)
    raw: str = Field(sa_type=Text)
    text: str = Field(sa_type=Text)
    outcome: str
    concept: str | None = Field(default=None, sa_type=Text)
    matched_word: str | None = Field(default=None, sa_type=Text)
    removed: list[str] = Field(default_factory=list, sa_type=JSON)


class StepTallyRow(SQLModel, table=True):
    """A step's exchanges counted as they arrive: charts draw a million of them without reading one."""

    __tablename__: ClassVar[str] = "step_tallies"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    student: str = Field(primary_key=True)
    """The tutee."""
    step: int = Field(primary_key=True)
    round: int
    rollouts: int
    correct: int
    truncated: int
    tokens: int = Field(sa_type=BIG_INTEGER)
    """Of all its rollouts."""
    kept: int
    no_concept_tag: int
    empty: int
    all_generic: int
    no_match: int
    fb_none: int
    histograms: dict[str, dict[str, int]] = Field(default_factory=dict, sa_type=JSON)
    """Quantity -> bin -> count; see `app.records.tallies`."""
    at: datetime = Field(sa_type=UtcDateTime)
    """When the newest of them was recorded."""


class ChartDigestRow(SQLModel, table=True):
    """What charts of an ended run are drawn from. It counts as long as the run's end is still the same; see `app.records.digests`."""

    __tablename__: ClassVar[str] = "chart_digests"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    kind: str = Field(primary_key=True)
    width: int = Field(primary_key=True)
    """Steps that one entry stands for; 0 where each stands for a round."""
    name: str = Field(primary_key=True)
    """Of the metric, or of what histograms are of."""
    ended_at: datetime = Field(sa_type=UtcDateTime)
    data: bytes


class TokenLensRow(SQLModel, table=True):
    """The rollout of the exchange with the same (run_id, seq), token by token. See `app.records.token_lens`."""

    __tablename__: ClassVar[str] = "token_lenses"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    seq: int = Field(sa_type=BIG_INTEGER, primary_key=True)
    data: bytes


class ExchangeLabelRow(SQLModel, table=True):
    """A word that somebody put on an exchange."""

    __tablename__: ClassVar[str] = "exchange_labels"
    __table_args__: ClassVar[Any] = (Index(None, "run_id", "label"),)
    exchange_id: int = Field(primary_key=True, sa_type=BIG_INTEGER, foreign_key="exchanges.id", ondelete="CASCADE")
    run_id: int
    """The exchange's, to count a run's labels by."""
    label: str = Field(primary_key=True, index=True)
    person: str
    at: datetime = Field(sa_type=UtcDateTime)


class CommentRow(SQLModel, table=True):
    """What somebody wrote about an exchange."""

    __tablename__: ClassVar[str] = "comments"
    __table_args__: ClassVar[Any] = (Index(None, "exchange_id", "id"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_INTEGER)
    exchange_id: int = Field(sa_type=BIG_INTEGER, foreign_key="exchanges.id", ondelete="CASCADE")
    person: str
    text: str = Field(sa_type=Text)
    at: datetime = Field(sa_type=UtcDateTime)


class ViewRow(SQLModel, table=True):
    """A filter of exchanges that somebody gave a name, for every run."""

    __tablename__: ClassVar[str] = "views"
    __table_args__: ClassVar[Any] = (UniqueConstraint("owner", "name"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    owner: str
    name: str
    query: str = Field(sa_type=Text)
    """As it stands in the inspector's address."""
    created_at: datetime = Field(sa_type=UtcDateTime)


class JobRow(SQLModel, table=True):
    """Short work for a worker, and what came of it. `state` changes in `app.lifecycle.jobs` only."""

    __tablename__: ClassVar[str] = "jobs"
    __table_args__: ClassVar[Any] = (Index(None, "state", "id"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    kind: str
    """What is to be done; the worker knows how (`worker.jobs`)."""
    owner: str
    exchange_id: int | None = Field(default=None, sa_type=BIG_INTEGER, foreign_key="exchanges.id", ondelete="CASCADE", index=True)
    """The exchange that it is about; it goes with it."""
    state: str
    request: dict[str, Any] = Field(sa_type=JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """While it is under way: what there is so far."""
    progress: float = 0.0
    token: int = 0
    """Rises with every claim: the fencing token."""
    tries: int = 0
    """How often its worker vanished or its process was killed."""
    worker: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    needs_device: str | None = None
    needs_memory_gib: float | None = None
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    rung_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    error_kind: str | None = None
    error_message: str | None = Field(default=None, sa_type=Text)
    error_advice: str | None = Field(default=None, sa_type=Text)


class EvaluationRow(SQLModel, table=True):
    __tablename__: ClassVar[str] = "evaluations"
    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "seq"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id")
    seq: int = Field(sa_type=BIG_INTEGER)
    round: int
    student: str
    domain: str
    split: str
    score: float
    low: float
    high: float
    questions: int
    samples: int
    majority_baseline: float
    at: datetime = Field(sa_type=UtcDateTime)


class GateDecisionRow(SQLModel, table=True):
    __tablename__: ClassVar[str] = "gate_decisions"
    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "seq"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id")
    seq: int = Field(sa_type=BIG_INTEGER)
    round: int
    tutor: str
    strategy: str
    gap: float
    threshold: float
    cognizant: bool
    domains: list[str] = Field(default_factory=list, sa_type=JSON)
    at: datetime = Field(sa_type=UtcDateTime)


class BreakRescueRow(SQLModel, table=True):
    __tablename__: ClassVar[str] = "break_rescues"
    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "seq"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id")
    seq: int = Field(sa_type=BIG_INTEGER)
    round: int
    tutee: str
    tutor: str
    difficulty_low: int | None = None
    difficulty_high: int | None = None
    correct_before: int
    broken: int
    wrong_before: int
    rescued: int
    at: datetime = Field(sa_type=UtcDateTime)


class CheckpointRow(SQLModel, table=True):
    __tablename__: ClassVar[str] = "checkpoints"
    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "seq"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id")
    seq: int = Field(sa_type=BIG_INTEGER)
    round: int
    steps: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    path: str
    size_bytes: int = Field(sa_type=BIG_INTEGER)
    at: datetime = Field(sa_type=UtcDateTime)
    state: str = "saving"
    """saving (not in the store yet), whole, damaged, or deleted (no longer kept)."""


class NoticeRow(SQLModel, table=True):
    """What happened to a run and is no event of its training: a damaged checkpoint, a store that is away."""

    __tablename__: ClassVar[str] = "notices"
    __table_args__: ClassVar[Any] = (Index(None, "run_id", "id"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id")
    kind: str
    message: str = Field(sa_type=Text)
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when it is so no more."""


class DeletionRow(SQLModel, table=True):
    """A run that is being removed: rows first, then artefacts. It stands here until nothing is left of it."""

    __tablename__: ClassVar[str] = "deletions"
    run_id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    folder: str
    actor: str
    requested_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    rows_gone_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Nothing is left of it but working copies of workers that were away: they clear those when they see this."""


class StorageRow(SQLModel, table=True):
    """One row: what all runs' artefacts may take, as the web server's settings say it."""

    __tablename__: ClassVar[str] = "storage"
    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    budget_bytes: int = Field(default=0, sa_type=BIG_INTEGER)
    """0: no limit."""


class StudentRow(SQLModel, table=True):
    """A model that experiments named, that a run exported, or that somebody registered, brought or had made."""

    __tablename__: ClassVar[str] = "students"
    __table_args__: ClassVar[Any] = (UniqueConstraint("name", "model"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    name: str
    model: str
    """As an experiment names it; of one that a run trained, relative to the folder of all runs; of one that is kept, to the library."""
    native_domain: str | None = None
    run_id: int | None = Field(default=None, foreign_key="runs.id")
    """The run that trained it; None for one that was brought."""
    owner: str | None = None
    """Who registered it or had it made; None for one that experiments named or a run trained."""
    kept: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    """Its folder is the studio's own, and goes with it."""
    job_id: int | None = None
    """The job that taught it."""
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class DomainRow(SQLModel, table=True):
    """A domain that experiments named."""

    __tablename__: ClassVar[str] = "domains"
    __table_args__: ClassVar[Any] = (UniqueConstraint("name", "train", "validation", "test"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    name: str
    train: str
    validation: str
    test: str
    verifier: str
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class UploadRow(SQLModel, table=True):
    """Files that somebody brought, and the domain that was made of them. See `app.domains`."""

    __tablename__: ClassVar[str] = "uploads"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    owner: str = Field(index=True)
    folder: str
    """Below the uploads of the library."""
    files: list[dict[str, Any]] = Field(sa_type=JSON)
    """Train, validation, test, as far as they were brought: `app.domains.files.Stored` as plain data."""
    guess: dict[str, Any] = Field(sa_type=JSON)
    """Columns and verifier, by what stands in the files."""
    domain_id: int | None = Field(default=None, foreign_key="domains.id", index=True)
    """Once it is saved."""
    kept: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """Of the domain: its settings, how many questions it has, what was mended."""
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    saved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class WorkerRow(SQLModel, table=True):
    """A worker process as it last spoke."""

    __tablename__: ClassVar[str] = "workers"
    name: str = Field(primary_key=True)
    host: str
    pid: int
    device: str
    labels: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs={"server_default": "[]"})
    """What it serves: `gpu`, `cpu`."""
    memory_gib: float | None = None
    """Of its GPU; of several, the least."""
    gpus: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    run_id: int | None = Field(default=None, foreign_key="runs.id")
    started_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)


class SweepRow(SQLModel, table=True):
    """One question asked of many experiments."""

    __tablename__: ClassVar[str] = "sweeps"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    name: str
    owner: str = Field(index=True)
    preset: str | None = None
    ablation: str | None = None
    axes: list[str] = Field(default_factory=list, sa_type=JSON)
    """Dotted paths of the settings that vary."""
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class SweepPointRow(SQLModel, table=True):
    """One experiment of a sweep, and its run until that is deleted."""

    __tablename__: ClassVar[str] = "sweep_points"
    sweep_id: int = Field(primary_key=True, foreign_key="sweeps.id", ondelete="CASCADE")
    place: int = Field(primary_key=True)
    values: dict[str, Any] = Field(sa_type=JSON)
    experiment_id: int = Field(foreign_key="experiments.id")
    run_id: int | None = Field(default=None, foreign_key="runs.id", ondelete="SET NULL", index=True)


class IdempotencyKeyRow(SQLModel, table=True):
    """A request that may come again, and what it made. See `app.idempotency`."""

    __tablename__: ClassVar[str] = "idempotency_keys"
    person: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    """Of the request; empty, for keys of old, fits every one."""
    resource_id: int
    created_at: datetime = Field(sa_type=UtcDateTime)
