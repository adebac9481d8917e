"""The shapes that the REST interface answers with and pages are rendered from. Fields may be added, never renamed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.statuses import RunStatus
from opcod.types import FeedbackOutcome

T = TypeVar("T")


class Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Listing(Shape, Generic[T]):
    """Part of a list."""

    items: list[T]
    next_cursor: str | None = Field(None, description="Give it as `cursor` to read on; null at the end.")


class Experiment(Shape):
    """What to run. Never changed once made."""

    id: int
    name: str
    preset: str | None = Field(description="The preset that it was made from.")
    config: dict[str, Any] = Field(description="The whole configuration, defaults included: the YAML file's model.")
    created_at: datetime


class Checked(Shape):
    """The answer to a dry run."""

    valid: bool
    config: dict[str, Any] = Field(description="The whole configuration, defaults included.")


class Progress(Shape):
    """How far a run is. It never goes back, not even when a run resumes."""

    round: int = Field(description="Round that is under way; 0 before the first.")
    rounds: int
    phase: str | None = Field(description="Student who is the tutee now.")
    step: int = Field(description="Updates done, of all students.")
    steps: int = Field(description="Updates of the whole run, of all students.")
    fraction: float = Field(description="0 to 1.")
    eta_seconds: float | None = Field(description="Seconds left at the pace of the last steps; null while that is unknown.")


class ScorePair(Shape):
    """The same split at two times, domain -> score."""

    initial: dict[str, float]
    latest: dict[str, float]


class Scores(Shape):
    """avg@k by domain, a fraction in [0, 1]. Compare `initial` with `final`, or within one split."""

    initial: dict[str, float] = Field(description="On test questions, before training; validation where test was not scored then.")
    latest: dict[str, float] = Field(description="The newest: test when the run is done, validation before.")
    final: dict[str, float] | None = Field(description="On test questions, after the last round.")
    validation: ScorePair = Field(description="Scores that the gate reads: comparable with each other at any time.")


class RunStudent(Shape):
    """A student of a run."""

    name: str
    model: str
    native_domain: str | None
    scores: Scores
    gap: float | None = Field(description="Its newest cognizance gap (Eq. 2); null before the first gate decision.")
    cognizant: bool | None = Field(description="Whether that gap lets it tutor.")
    steps: int = Field(description="Its updates so far.")


class VerdictShape(Shape):
    """Whether each student improved (Pareto) on test questions, and so all of them. Null before the end."""

    mutual_improvement: bool | None
    students: dict[str, bool | None]


class ErrorShape(Shape):
    """Why a run failed."""

    kind: str
    message: str
    advice: str


class NeedsShape(Shape):
    """What a run waits for."""

    device: Literal["gpu", "cpu"] | None = Field(description="Label of a worker; null: any will do.")
    memory_gib: float | None = Field(description="Least memory of the GPU.")


class Run(Shape):
    """The running of an experiment."""

    id: int
    experiment_id: int
    name: str
    owner: str = Field(description="Who launched it.")
    tags: list[str]
    archived: bool = Field(description="Left out of lists unless asked for.")
    status: RunStatus
    queue_position: int | None = Field(description="1 is next; null unless queued.")
    waiting_for: str | None = Field(description="Why it does not start although it is queued; null where it is only a matter of its turn.")
    priority: int = Field(description="Higher goes first.")
    needs: NeedsShape
    copied_from: int | None = Field(description="The run that it is a clone or a retry of.")
    retried_as: int | None = Field(description="The newest run that does it over again.")
    algorithm: str
    domains: list[str]
    progress: Progress
    students: list[RunStudent]
    verdict: VerdictShape
    error: ErrorShape | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class Transition(Shape):
    """One change of a run's status."""

    id: int = Field(description="Rises with time.")
    at: datetime
    from_status: RunStatus | None
    to_status: RunStatus
    cause: str
    actor: str = Field(description="Who did it: user, a worker's name, reaper.")


class MetricPoint(Shape):
    """One point of one curve."""

    id: int = Field(description="Arrival number: give the last one as `after` to read what came since.")
    seq: int = Field(description="Place in the run; the same when a step is run again after a resume.")
    name: str
    step: int = Field(description="The student's updates so far.")
    round: int
    value: float
    at: datetime


class QuestionShape(Shape):
    id: str
    prompt: str
    answer: str


class RolloutShape(Shape):
    index: int = Field(description="Place among the question's rollouts.")
    text: str
    tokens: int
    correct: bool
    extracted: str | None = Field(description="The answer that was found in the text.")
    truncated: bool = Field(description="The length limit cut it.")


class FeedbackShape(Shape):
    raw: str = Field(description="As the tutor wrote it.")
    text: str = Field(description="What the sanitiser left.")
    outcome: FeedbackOutcome
    concept: str | None
    matched_word: str | None
    removed: list[str] = Field(description="What the sanitiser cut.")


class DivergenceShape(Shape):
    """Between student and self-teacher, nats a token."""

    mean: float
    max: float


class Exchange(Shape):
    """One rollout of the tutee, what the tutor said of it and what the self-teacher was then shown."""

    id: int
    run_id: int
    round: int
    step: int
    group: int = Field(description="The question's place in the step's batch.")
    tutee: str
    tutor: str | None
    domain: str
    question: QuestionShape
    rollout: RolloutShape
    own_solution: str | None
    feedback: FeedbackShape | None
    teacher_prompt: str | None
    in_loss: bool
    divergence: DivergenceShape | None
    labels: list[str] = Field(description="Words that people put on it.")


class ExchangeDetail(Exchange):
    siblings: list[int] = Field(description="Ids of the question's rollouts in this step, this one included, by index.")


class Label(Shape):
    """A word on an exchange."""

    label: str
    person: str = Field(description="Who put it there.")
    at: datetime


class LabelCount(Shape):
    """A word in use."""

    label: str
    exchanges: int = Field(description="Exchanges that have it.")


class EvaluationShape(Shape):
    """avg@k of a student on a domain, with its 95 % bootstrap interval."""

    id: int
    round: int = Field(description="0 before training, r after round r.")
    student: str
    domain: str
    split: Literal["validation", "test"]
    score: float
    low: float
    high: float
    questions: int
    samples: int
    majority_baseline: float = Field(description="Score of always giving the most frequent answer.")


class GateDecisionShape(Shape):
    id: int
    round: int
    tutor: str
    strategy: str
    gap: float
    threshold: float
    cognizant: bool
    domains: list[str] = Field(description="Domains on whose questions its feedback is asked for.")


class BreakRescueShape(Shape):
    """How feedback changed the tutee's answers."""

    id: int
    round: int
    tutee: str
    tutor: str
    difficulty: tuple[int, int] | None = Field(description="Wrong rollouts of n before feedback, inclusive; null for all.")
    correct_before: int
    broken: int
    break_rate: float | None
    wrong_before: int
    rescued: int
    rescue_rate: float | None


class Interval(Shape):
    """A score with its 95 % bootstrap interval over questions."""

    score: float
    low: float
    high: float
    questions: int
    samples: int = Field(description="k of avg@k.")


class ReportScore(Shape):
    """A student on a domain: before training, and as each run left it."""

    student: str
    domain: str
    native: bool = Field(description="It is the student's own domain.")
    majority_baseline: float | None = Field(description="Score of always giving the most frequent answer.")
    initial: Interval | None
    latest: list[Interval | None] = Field(description="One for each run of `runs`, in their order.")


class SettingDifference(Shape):
    """A setting that two runs do not share."""

    setting: str = Field(description="Dotted path, as in `method.gate.threshold`.")
    here: Any = Field(description="The report's own run has this.")
    there: Any = Field(description="The other run has this.")


class ReportRun(Shape):
    """A column of the table of scores."""

    run_id: int
    name: str
    algorithm: str
    status: RunStatus
    mutual_improvement: bool | None
    wall_seconds: float | None = Field(description="Time that workers held it; null before any did.")
    differences: list[SettingDifference] = Field(description="What differs from the report's own run; empty for that run itself.")


class ReportTable(Shape):
    """Scores as in the paper's Table 1; with other runs beside, a table of ablations."""

    split: Literal["test", "validation"] = Field(description="`validation` while the run has no final test score.")
    runs: list[ReportRun] = Field(description="The report's own run first.")
    scores: list[ReportScore]


class Report(Shape):
    """A run in one document."""

    run: Run
    table: ReportTable
    config: dict[str, Any] = Field(description="The run's own settings.")
    evaluations: list[EvaluationShape]
    gate_decisions: list[GateDecisionShape]
    break_rescue: list[BreakRescueShape]
    outcomes: dict[str, int] = Field(description="Feedbacks by outcome.")
    history: list[Transition]


class StreamEvent(Shape):
    """Something that happened in a run: names and numbers, never the thing itself."""

    id: int = Field(description="Arrival number: send it as `Last-Event-ID` to go on after it.")
    kind: str = Field(description="A training event's kind, or `status_changed`.")
    seq: int | None = Field(description="Place in the run; null for a change of status.")
    at: datetime
    data: dict[str, Any] = Field(description="Which round, step, student or status it is about.")


class CheckpointShape(Shape):
    id: int
    round: int
    steps: dict[str, int] = Field(description="Student -> its updates so far.")
    path: str = Field(description="Manifest, relative to the run's folder.")
    size_bytes: int
    at: datetime


class LogPart(Shape):
    """A part of the run's log."""

    text: str
    next_cursor: str = Field(description="Give it as `after` to read on from here, now or later.")
    size: int = Field(description="Bytes in the log.")


class StudentShape(Shape):
    """A student that experiments named or a run made."""

    id: int
    name: str
    model: str = Field(description="What to write in an experiment's `students[].model`.")
    native_domain: str | None
    run_id: int | None = Field(description="The run that trained it.")
    created_at: datetime


class DomainShape(Shape):
    """A domain that experiments named."""

    id: int
    name: str
    train: str
    validation: str
    test: str
    verifier: str
    created_at: datetime


class Worker(Shape):
    """A worker that was heard of in the last half minute."""

    name: str
    host: str
    pid: int
    device: str
    labels: list[str] = Field(description="What it serves: `gpu`, `cpu`.")
    memory_gib: float | None = Field(description="Of its GPU.")
    run_id: int | None = Field(description="The run it works on.")
    started_at: datetime
    seen_at: datetime


class AblationShape(Shape):
    """A sweep that the paper makes."""

    name: str = Field(description="Give it as `ablation`.")
    title: str
    description: str = Field(description="What is compared.")
    source: str = Field(description="Where the paper speaks of it.")
    grid: dict[str, list[Any]] = Field(description="Dotted path -> values.")
    overrides: list[dict[str, Any]] = Field(description="Settings of each point, where it is no grid.")


class SweepProgress(Shape):
    """Points of a sweep by where their runs stand."""

    points: int
    waiting: int = Field(description="Queued or paused.")
    active: int = Field(description="With a worker.")
    completed: int
    failed: int
    stopped: int
    deleted: int = Field(description="Points whose run is there no more.")
    over: bool = Field(description="No run waits or is with a worker.")


class Sweep(Shape):
    """One question asked of many experiments."""

    id: int
    name: str
    owner: str = Field(description="Who launched it.")
    preset: str | None = Field(description="The preset that all points are made from.")
    ablation: str | None = Field(description="The built-in sweep that it is.")
    axes: list[str] = Field(description="Dotted paths of the settings that vary.")
    created_at: datetime
    progress: SweepProgress


class SweepPoint(Shape):
    """One experiment of a sweep, and its run."""

    place: int = Field(description="From 0.")
    values: dict[str, Any] = Field(description="Dotted path -> value, of the settings that vary.")
    experiment_id: int
    run: Run | None = Field(description="Null once it was deleted.")


class SweepDetail(Sweep):
    """A sweep with its points."""

    points: list[SweepPoint]


class PlannedPoint(Shape):
    """A point that would be made."""

    name: str
    values: dict[str, Any] = Field(description="Dotted path -> value, of the settings that vary.")


class SweepCheck(Shape):
    """The answer to a dry run of a sweep."""

    valid: bool
    axes: list[str] = Field(description="Dotted paths of the settings that vary.")
    points: list[PlannedPoint]
