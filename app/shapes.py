"""The shapes that the REST interface answers with and pages are rendered from. Fields may be added, never renamed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.lifecycle.statuses import RunStatus
from opcod.estimation.figures import Estimate
from opcod.types import FeedbackOutcome

T = TypeVar("T")


class Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Listing(Shape, Generic[T]):
    """Part of a list."""

    items: list[T] = Field(description="In the order that the path says.")
    next_cursor: str | None = Field(None, description="Give it as `cursor` to read on; null at the end.")


class Experiment(Shape):
    """What to run. Never changed once made."""

    id: int = Field(description="Number of the experiment.")
    name: str = Field(description="What its maker calls it.")
    preset: str | None = Field(description="The preset that it was made from.")
    config: dict[str, Any] = Field(description="The whole configuration, defaults included: the YAML file's model.")
    created_at: datetime = Field(description="When it was made.")


class Checked(Shape):
    """The answer to a dry run."""

    valid: bool = Field(description="Always true: what is not valid is a 422.")
    config: dict[str, Any] = Field(description="The whole configuration, defaults included.")
    estimate: Estimate = Field(description="What it will take, with the uncertainty of that.")


class Achieved(Shape):
    """What a completed run took. Null where it is not on the record."""

    seconds: float | None = Field(description="That workers held it.")
    memory_bytes: float | None = Field(description="At its peak: of the GPU, or of the processes that trained.")
    disk_bytes: float | None = Field(description="What its checkpoints, exports and log take in the store.")
    training_tokens: float | None = Field(description="Sampled in rollouts and feedback.")


class RunEstimate(Shape):
    """What a run was expected to take, and what it took."""

    predicted: Estimate | None = Field(description="As of its launch; null for runs of earlier versions.")
    achieved: Achieved | None = Field(description="Null until it has completed.")
    preflight_id: int | None = Field(description="The newest pre-flight of its settings that was completed before its launch.")


class Progress(Shape):
    """How far a run is. It never goes back, not even when a run resumes."""

    round: int = Field(description="Round that is under way; 0 before the first.")
    rounds: int = Field(description="Rounds of the whole run.")
    phase: str | None = Field(description="Student who is the tutee now.")
    step: int = Field(description="Updates done, of all students.")
    steps: int = Field(description="Updates of the whole run, of all students.")
    fraction: float = Field(description="0 to 1.")
    eta_seconds: float | None = Field(description="Seconds left at the pace of the last steps; null while that is unknown.")


class ScorePair(Shape):
    """The same split at two times, domain -> score."""

    initial: dict[str, float] = Field(description="Before training, domain -> score.")
    latest: dict[str, float] = Field(description="The newest, domain -> score.")


class Scores(Shape):
    """avg@k by domain, a fraction in [0, 1]. Compare `initial` with `final`, or within one split."""

    initial: dict[str, float] = Field(description="On test questions, before training; validation where test was not scored then.")
    latest: dict[str, float] = Field(description="The newest: test when the run is done, validation before.")
    final: dict[str, float] | None = Field(description="On test questions, after the last round.")
    validation: ScorePair = Field(description="Scores that the gate reads: comparable with each other at any time.")


class RunStudent(Shape):
    """A student of a run."""

    name: str = Field(description="Its name within the experiment.")
    model: str = Field(description="Hub id, folder, or `demo:NAME`.")
    native_domain: str | None = Field(description="Domain in which it is said to be the stronger one.")
    scores: Scores = Field(description="How well it answers.")
    gap: float | None = Field(description="Its newest cognizance gap (Eq. 2); null before the first gate decision.")
    cognizant: bool | None = Field(description="Whether that gap lets it tutor.")
    steps: int = Field(description="Its updates so far.")


class VerdictShape(Shape):
    """Whether each student improved (Pareto) on test questions, and so all of them. Null before the end."""

    mutual_improvement: bool | None = Field(description="Whether every student improved.")
    students: dict[str, bool | None] = Field(description="Student -> whether it improved.")


class ErrorShape(Shape):
    """Why a run failed."""

    kind: str = Field(description="What sort of error: `config`, `data`, `model`, `resource`, `checkpoint`, `numerics`, `worker_lost`, ...")
    message: str = Field(description="What was wrong, and where.")
    advice: str = Field(description="What to do.")


class NeedsShape(Shape):
    """What a run waits for."""

    device: Literal["gpu", "cpu"] | None = Field(description="Label of a worker; null: any will do.")
    memory_gib: float | None = Field(description="Least memory of the GPU.")
    gpus: int | None = Field(description="Least number of GPUs; null: one will do, if it needs any.")


class Run(Shape):
    """The running of an experiment."""

    id: int = Field(description="Number of the run.")
    experiment_id: int = Field(description="What it runs.")
    name: str = Field(description="What its owner calls it.")
    owner: str = Field(description="Who launched it.")
    tags: list[str] = Field(description="Words to find it by.")
    archived: bool = Field(description="Left out of lists unless asked for.")
    status: RunStatus = Field(description="Where it is in its life.")
    queue_position: int | None = Field(description="1 is next; null unless queued.")
    waiting_for: str | None = Field(description="Why it does not start although it is queued; null where it is only a matter of its turn.")
    priority: int = Field(description="Higher goes first.")
    needs: NeedsShape = Field(description="What a worker must have to take it.")
    copied_from: int | None = Field(description="The run that it is a clone or a retry of.")
    retried_as: int | None = Field(description="The newest run that does it over again.")
    sweep_id: int | None = Field(description="The sweep that it is a point of.")
    algorithm: str = Field(description="`opcod`, or a baseline: `sdpo`, `grpo`.")
    domains: list[str] = Field(description="Names of its domains, in the experiment's order.")
    progress: Progress = Field(description="How far it is.")
    students: list[RunStudent] = Field(description="Its students, in the experiment's order.")
    verdict: VerdictShape = Field(description="What came of it.")
    error: ErrorShape | None = Field(description="Why it failed; null unless it did.")
    size_bytes: int = Field(description="What its checkpoints, exports and log take in the store, as its worker last measured them.")
    created_at: datetime = Field(description="When it was made.")
    started_at: datetime | None = Field(description="When a worker first took it.")
    ended_at: datetime | None = Field(description="When it completed, failed or was stopped.")


class Transition(Shape):
    """One change of a run's status."""

    id: int = Field(description="Rises with time.")
    at: datetime = Field(description="When.")
    from_status: RunStatus | None = Field(description="Null for the first.")
    to_status: RunStatus = Field(description="What it became.")
    cause: str = Field(description="Why, in words.")
    actor: str = Field(description="Who did it: user, a worker's name, reaper.")


class MetricPoint(Shape):
    """One point of one curve."""

    id: int = Field(description="Arrival number: give the last one as `after` to read what came since.")
    seq: int = Field(description="Place in the run; the same when a step is run again after a resume.")
    name: str = Field(description="Name of the curve, such as `student1/train/loss`.")
    step: int = Field(description="The student's updates so far.")
    round: int = Field(description="Round of the step.")
    value: float = Field(description="Finite.")
    at: datetime = Field(description="When the training process said it.")


class QuestionShape(Shape):
    """A question with its answer."""

    id: str = Field(description="Its id within the domain.")
    prompt: str = Field(description="As the tutee saw it.")
    answer: str = Field(description="The reference answer.")


class RolloutShape(Shape):
    """One answer that the tutee sampled."""

    index: int = Field(description="Place among the question's rollouts.")
    text: str = Field(description="What the tutee answered.")
    tokens: int = Field(description="Sampled tokens, the end-of-turn token included.")
    correct: bool = Field(description="What the verifier found.")
    extracted: str | None = Field(description="The answer that was found in the text.")
    truncated: bool = Field(description="The length limit cut it.")


class FeedbackShape(Shape):
    """What a tutor said of a rollout."""

    raw: str = Field(description="As the tutor wrote it.")
    text: str = Field(description="What the sanitiser left.")
    outcome: FeedbackOutcome = Field(description="`kept`, or why it was dropped.")
    concept: str | None = Field(description="The term that the tutor named; null where it named none.")
    matched_word: str | None = Field(description="The word of it that the question has.")
    removed: list[str] = Field(description="What the sanitiser cut.")


class DivergenceShape(Shape):
    """Between student and self-teacher, nats a token."""

    mean: float = Field(description="Over the response's tokens.")
    max: float = Field(description="The largest of a token.")


class AgainShape(Shape):
    """The tutee's answer to the same question with the kept feedback in its prompt."""

    text: str = Field(description="What was answered.")
    correct: bool = Field(description="What the verifier says.")
    extracted: str | None = Field(description="The answer that was found in it.")


class Exchange(Shape):
    """One rollout of the tutee, what the tutor said of it and what the self-teacher was then shown."""

    id: int = Field(description="Number of the exchange.")
    run_id: int = Field(description="The run that it belongs to.")
    round: int = Field(description="Round of the step.")
    step: int = Field(description="The tutee's update, from 1.")
    group: int = Field(description="The question's place in the step's batch.")
    tutee: str = Field(description="Who answered.")
    tutor: str | None = Field(description="Who commented; null where nobody could.")
    domain: str = Field(description="The question's.")
    question: QuestionShape = Field(description="What was asked.")
    rollout: RolloutShape = Field(description="What was answered.")
    own_solution: str | None = Field(description="The tutee's own correct solution that the self-teacher was shown.")
    feedback: FeedbackShape | None = Field(description="What the tutor said; null where it was not asked.")
    teacher_prompt: str | None = Field(description="What the self-teacher was shown, exactly.")
    in_loss: bool = Field(description="Whether the update learned from it.")
    again: AgainShape | None = Field(description="The answer with the kept feedback in the prompt; null where the step did not ask for it.")
    effect: Literal["break", "rescue"] | None = Field(description="What the feedback did to the answer: right to wrong, or wrong to right.")
    divergence: DivergenceShape | None = Field(description="Of student and self-teacher; null where no self-teacher taught it.")
    labels: list[str] = Field(description="Words that people put on it.")


class ExchangeDetail(Exchange):
    """An exchange, and where its siblings are."""

    siblings: list[int] = Field(description="Ids of the question's rollouts in this step, this one included, by index.")
    tokens_recorded: bool = Field(description="Whether `/tokens` tells the rollout token by token.")


class AlternativeShape(Shape):
    """Another token that could have come next."""

    text: str = Field(description="What it adds to the text.")
    student: float = Field(description="Its probability for the student.")
    teacher: float = Field(description="Its probability for the self-teacher.")


class TokensShape(Shape):
    """A rollout token by token: columns of equal length, as the update saw them."""

    texts: list[str] = Field(description="The tokens' texts, special tokens written out. A character of several tokens is with the last.")
    in_loss: list[bool] = Field(description="Whether the loss counted the token.")
    student: list[float] = Field(description="The student's log-probability of the token at the sampling temperature, in nats.")
    teacher: list[float] | None = Field(description="The self-teacher's. Null where none taught it.")
    divergence: list[float] | None = Field(description="Of student and self-teacher at the token, in nats.")
    weight: list[float] | None = Field(description="The importance weight that the loss gave the token.")
    alternatives: list[list[AlternativeShape]] | None = Field(
        description="The most likely next tokens of both at the token's place, those that the self-teacher prefers first."
    )


class ReplayAsked(Shape):
    """What a replay asked for."""

    feedback: str | None = Field(description="Feedback in place of the recorded one; null: the recorded one, empty: none.")
    own_solution: bool = Field(description="Whether the tutee's own solution was shown, where it had one.")
    weights: str | None = Field(description="`checkpoint:ID`, `initial` or `exported`.")
    samples: int = Field(description="Answers to each prompt.")


class ReplayAnswer(Shape):
    """One answer that was sampled again."""

    text: str = Field(description="What was answered.")
    tokens: int = Field(description="Sampled tokens.")
    correct: bool = Field(description="What the verifier found.")
    extracted: str | None = Field(description="The answer that was found in the text.")
    truncated: bool = Field(description="The length limit cut it.")


class ReplayArm(Shape):
    """The answers to one prompt."""

    name: Literal["question", "recorded", "edited"] = Field(
        description="The question alone; with what the self-teacher was shown then; with what it is shown now."
    )
    prompt: str = Field(description="The prompt, exactly.")
    accuracy: float = Field(description="Share of right answers.")
    low: float = Field(description="Lower end of its 95 % interval (Wilson).")
    high: float = Field(description="Upper end.")
    answers: list[ReplayAnswer] = Field(description="In the order of sampling: the same place in two arms has the same random numbers.")


class Replay(Shape):
    """An exchange's self-teacher asked again on a worker, and how right it was before and after."""

    id: int = Field(description="Number of the job that does it.")
    exchange_id: int = Field(description="The exchange.")
    state: Literal["queued", "running", "completed", "failed", "cancelled"] = Field(description="How far it is.")
    owner: str = Field(description="Who asked.")
    asked: ReplayAsked = Field(description="For what.")
    progress: float = Field(description="The fraction that is done.")
    planned: list[str] = Field(description="The arms that there will be, once it is under way.")
    arms: list[ReplayArm] = Field(description="Those that are done.")
    change: float | None = Field(
        description="Accuracy with the edited context less that with the recorded one, or with the question alone."
    )
    note: str = Field(description="What is to be known of it; empty: nothing.")
    error: ErrorShape | None = Field(description="Why it failed.")
    worker: str | None = Field(description="Who does it.")
    created_at: datetime = Field(description="When it was asked for.")
    started_at: datetime | None = Field(description="When a worker began.")
    ended_at: datetime | None = Field(description="When it ended.")


class Label(Shape):
    """A word on an exchange."""

    label: str = Field(description="The word.")
    person: str = Field(description="Who put it there.")
    at: datetime = Field(description="When it was put there.")


class Comment(Shape):
    """What somebody wrote about an exchange."""

    id: int = Field(description="Rises with time.")
    exchange_id: int = Field(description="The exchange that it is about.")
    person: str = Field(description="Who wrote it.")
    text: str = Field(description="What they wrote.")
    at: datetime = Field(description="When they wrote it.")


class NewComment(Shape):
    """A comment to be written."""

    text: str = Field(description="What to write.", min_length=1, max_length=10_000)


class View(Shape):
    """A filter of exchanges with a name."""

    id: int = Field(description="Number of the view.")
    owner: str = Field(description="Who saved it.")
    name: str = Field(description="What they call it.")
    query: str = Field(description="The filter as it stands in the inspector's address, without the question mark.")
    created_at: datetime = Field(description="When it was saved first.")


class NewView(Shape):
    """A view to be saved."""

    name: str = Field(description="What to call it.", min_length=1, max_length=60)
    query: str = Field(description="The filter as it stands in the inspector's address.", max_length=2_000)


class FacetCount(Shape):
    """A value and the number of exchanges that have it."""

    value: str = Field(description="As the filter takes it.")
    exchanges: int = Field(description="How many exchanges a list would hold with it.")


class Facet(Shape):
    """One thing to filter by."""

    name: str = Field(description="Name of the filter.")
    values: list[FacetCount] = Field(description="Every value that occurs, under all the other filters.")


class Facets(Shape):
    """How many exchanges fit, and how many would with another filter."""

    total: int = Field(description="Exchanges that fit; where `more` is true at least so many.")
    more: bool = Field(description="There are more than were counted; no facets are told then.")
    facets: list[Facet] = Field(description="What to filter by.")


class LabelCount(Shape):
    """A word in use."""

    label: str = Field(description="The word.")
    exchanges: int = Field(description="Exchanges that have it.")


class EvaluationShape(Shape):
    """avg@k of a student on a domain, with its 95 % bootstrap interval."""

    id: int = Field(description="Rises with time.")
    round: int = Field(description="0 before training, r after round r.")
    student: str = Field(description="Who was scored.")
    domain: str = Field(description="On what.")
    split: Literal["validation", "test"] = Field(description="On which questions.")
    score: float = Field(description="Mean accuracy, 0 to 1.")
    low: float = Field(description="Lower end of the interval.")
    high: float = Field(description="Upper end of the interval.")
    questions: int = Field(description="Questions asked.")
    samples: int = Field(description="k of avg@k: answers a question.")
    majority_baseline: float = Field(description="Score of always giving the most frequent answer.")


class GateDecisionShape(Shape):
    """Whether a student may tutor in a round."""

    id: int = Field(description="Rises with time.")
    round: int = Field(description="Round that it is for.")
    tutor: str = Field(description="Who asked to tutor.")
    strategy: str = Field(description="By which rule it was decided.")
    gap: float = Field(description="Its cognizance gap (Eq. 2).")
    threshold: float = Field(description="tau: the largest gap that may tutor.")
    cognizant: bool = Field(description="Whether the gap is at most the threshold.")
    domains: list[str] = Field(description="Domains on whose questions its feedback is asked for.")


class BreakRescueShape(Shape):
    """How feedback changed the tutee's answers."""

    id: int = Field(description="Rises with time.")
    round: int = Field(description="Round of the phase.")
    tutee: str = Field(description="Who answered again.")
    tutor: str = Field(description="Whose feedback it had read.")
    difficulty: tuple[int, int] | None = Field(description="Wrong rollouts of n before feedback, inclusive; null for all.")
    correct_before: int = Field(description="Right answers before feedback.")
    broken: int = Field(description="Of these, wrong after it.")
    break_rate: float | None = Field(description="broken / correct_before; null where there were none.")
    wrong_before: int = Field(description="Wrong answers before feedback.")
    rescued: int = Field(description="Of these, right after it.")
    rescue_rate: float | None = Field(description="rescued / wrong_before; null where there were none.")


class Interval(Shape):
    """A score with its 95 % bootstrap interval over questions."""

    score: float = Field(description="Mean accuracy, 0 to 1.")
    low: float = Field(description="Lower end.")
    high: float = Field(description="Upper end.")
    questions: int = Field(description="Questions asked.")
    samples: int = Field(description="k of avg@k.")


class ReportScore(Shape):
    """A student on a domain: before training, and as each run left it."""

    student: str = Field(description="Its name within the experiment.")
    domain: str = Field(description="The domain's name.")
    native: bool = Field(description="It is the student's own domain.")
    majority_baseline: float | None = Field(description="Score of always giving the most frequent answer.")
    initial: Interval | None = Field(description="Before training; null where it was not scored.")
    latest: list[Interval | None] = Field(description="One for each run of `runs`, in their order.")


class SettingDifference(Shape):
    """A setting that two runs do not share."""

    setting: str = Field(description="Dotted path, as in `method.gate.threshold`.")
    here: Any = Field(description="The report's own run has this.")
    there: Any = Field(description="The other run has this.")


class ReportRun(Shape):
    """A column of the table of scores."""

    run_id: int = Field(description="Number of the run.")
    name: str = Field(description="What its owner calls it.")
    algorithm: str = Field(description="`opcod`, `sdpo` or `grpo`.")
    status: RunStatus = Field(description="Where it is in its life.")
    mutual_improvement: bool | None = Field(description="Its verdict; null before the end.")
    wall_seconds: float | None = Field(description="Time that workers held it; null before any did.")
    differences: list[SettingDifference] = Field(description="What differs from the report's own run; empty for that run itself.")


class ReportTable(Shape):
    """Scores as in the paper's Table 1; with other runs beside, a table of ablations."""

    split: Literal["test", "validation"] = Field(description="`validation` while the run has no final test score.")
    runs: list[ReportRun] = Field(description="The report's own run first.")
    scores: list[ReportScore] = Field(description="A line for each student and domain.")


class RoundOutcomes(Shape):
    """What became of a round's feedback."""

    round: int = Field(description="From 1.")
    outcomes: dict[str, int] = Field(description="Feedbacks by outcome.")


class ReportDifficulty(Shape):
    """How feedback changed answers to questions of one difficulty, all rounds together."""

    difficulty: tuple[int, int] | None = Field(description="Wrong rollouts of n before feedback, inclusive; null for all.")
    cognizant: bool | None = Field(description="Of tutors whose gap was at most the threshold, or of the others; null for both.")
    correct_before: int = Field(description="Right answers before feedback.")
    broken: int = Field(description="Of these, wrong after it.")
    break_rate: float | None = Field(description="broken / correct_before; null where there were none.")
    wrong_before: int = Field(description="Wrong answers before feedback.")
    rescued: int = Field(description="Of these, right after it.")
    rescue_rate: float | None = Field(description="rescued / wrong_before; null where there were none.")


class StepTime(Shape):
    """How long steps took."""

    seconds: float = Field(description="Mean of a step.")
    steps: int = Field(description="Over so many.")


class ReportStepTime(Shape):
    """Steps of phases with a tutor, and of phases without."""

    all_steps: StepTime | None = Field(description="Every step; null before the first.")
    with_feedback: StepTime | None = Field(description="In phases with a tutor; null where there was none.")
    without_feedback: StepTime | None = Field(description="In phases without one; null where there was none.")


class ReferenceScore(Shape):
    """What the paper measured of a student like this one, before training and after each algorithm."""

    student: str = Field(description="This run's student with the same native domain.")
    domain: str = Field(description="This run's name of the domain.")
    initial: float = Field(description="Before training, 0 to 1.")
    grpo: float = Field(description="After GRPO.")
    sdpo: float = Field(description="After SDPO.")
    opcod: float = Field(description="After OPCoD.")


class ReferenceBreakRate(Shape):
    """The paper's break rates at one difficulty."""

    difficulty: tuple[int, int] | None = Field(description="Wrong rollouts of 8 before feedback, inclusive; null for all.")
    cognizant: float = Field(description="Of cognizant tutors, 0 to 1.")
    incognizant: float = Field(description="Of incognizant tutors, 0 to 1.")


class ReferenceStepTime(Shape):
    """The paper's time a step, physics and chemistry on 2 x H200, seconds."""

    opcod: float = Field(description="OPCoD, all steps.")
    sdpo: float = Field(description="SDPO.")
    with_feedback: float = Field(description="OPCoD, steps with feedback.")
    without_feedback: float = Field(description="OPCoD, steps without.")


class ReportReference(Shape):
    """What the paper measured; none of it was measured here."""

    source: str = Field(description="Where it stands.")
    scores: list[ReferenceScore] = Field(description="Table 1, where the run's pair of domains is one of the paper's.")
    outcomes_first_round: dict[str, float] = Field(description="Table 3: outcome -> share.")
    outcomes_last_round: dict[str, float] = Field(description="The same of the last round.")
    break_rates: list[ReferenceBreakRate] = Field(description="By difficulty.")
    step_seconds: ReferenceStepTime | None = Field(description="Null for other pairs than the paper's.")


class Report(Shape):
    """A run in one document."""

    run: Run = Field(description="The run itself.")
    table: ReportTable = Field(description="Scores before and after, as in the paper's Table 1.")
    preset: str | None = Field(description="The preset that its experiment was made from.")
    config: dict[str, Any] = Field(description="The run's own settings.")
    changed: list[SettingDifference] = Field(description="What differs from the preset, `there`; empty without one.")
    evaluations: list[EvaluationShape] = Field(description="Every score, in order of arrival.")
    gate_decisions: list[GateDecisionShape] = Field(description="Who could tutor in each round.")
    break_rescue: list[BreakRescueShape] = Field(description="How feedback changed answers.")
    difficulty: list[ReportDifficulty] = Field(description="The same by difficulty, all rounds and tutors together.")
    outcomes: dict[str, int] = Field(description="Feedbacks by outcome.")
    outcomes_by_round: list[RoundOutcomes] = Field(description="The same round by round.")
    step_time: ReportStepTime = Field(description="How long steps took, with feedback and without.")
    reference: ReportReference | None = Field(description="What the paper measured, where the run is made from its preset.")
    history: list[Transition] = Field(description="Every change of its status.")


class StreamEvent(Shape):
    """Something that happened in a run: names and numbers, never the thing itself."""

    id: int = Field(description="Arrival number: send it as `Last-Event-ID` to go on after it.")
    kind: str = Field(description="A training event's kind, or `status_changed`.")
    seq: int | None = Field(description="Place in the run; null for a change of status.")
    at: datetime = Field(description="When.")
    data: dict[str, Any] = Field(description="Which round, step, student or status it is about.")


class CheckpointShape(Shape):
    """A resumable state of all students."""

    id: int = Field(description="Rises with time.")
    round: int = Field(description="Round in which it was saved.")
    steps: dict[str, int] = Field(description="Student -> its updates so far.")
    path: str = Field(description="Manifest, relative to the run's folder.")
    size_bytes: int = Field(description="Of all of its files.")
    at: datetime = Field(description="When it was saved.")
    state: Literal["saving", "whole", "damaged", "deleted"] = Field(
        description="`saving`: on its worker's disk only. `whole`: in the store, to be gone on from. `deleted`: no longer kept."
    )


class Artefact(Shape):
    """A file that a run keeps."""

    path: str = Field(description="Relative to the run's folder in the store.")
    kind: Literal["checkpoint", "export", "log", "other"] = Field(description="What it is part of.")
    size_bytes: int = Field(description="Its length.")


class ExportShape(Shape):
    """A trained student as a model folder."""

    student: str = Field(description="Name of the student.")
    size_bytes: int = Field(description="Of all of its files.")


class NoticeShape(Shape):
    """What happened to a run besides its training."""

    id: int = Field(description="Rises with time.")
    kind: str = Field(description="What it concerns: `checkpoint`, `store`, `log`.")
    message: str = Field(description="What happened, in words.")
    at: datetime = Field(description="When.")
    ended_at: datetime | None = Field(description="Since when it is so no more; null while it stands.")


class StoredRun(Shape):
    """What a run takes."""

    id: int = Field(description="Number of the run.")
    name: str = Field(description="What its owner calls it.")
    owner: str = Field(description="Who launched it.")
    status: RunStatus = Field(description="Where it is in its life.")
    size_bytes: int = Field(description="Of all of its files, as its worker last measured them.")
    ended_at: datetime | None = Field(description="When it completed, failed or was stopped.")


class Storage(Shape):
    """What all runs' artefacts take."""

    used_bytes: int = Field(description="Of all runs; those being deleted count until they are gone.")
    budget_bytes: int | None = Field(description="What they may take (`OPCOD_DISK_BUDGET_GIB`); null: no limit.")
    state: Literal["fine", "near", "over"] = Field(description="`near`: from 80 %. `over`: no new run starts.")
    message: str | None = Field(description="What to say of it; null where it is fine.")
    runs: list[StoredRun] = Field(description="Those that take most, the biggest first.")


class LogPart(Shape):
    """A part of the run's log."""

    text: str = Field(description="Whole characters only.")
    next_cursor: str = Field(description="Give it as `after` to read on from here, now or later.")
    size: int = Field(description="Bytes in the log.")


class StudentShape(Shape):
    """A student that experiments named, a run or a fine-tuning made, or somebody registered or brought."""

    id: int = Field(description="Number of the student.")
    name: str = Field(description="What it is called.")
    model: str = Field(description="What to write in an experiment's `students[].model`.")
    native_domain: str | None = Field(description="Domain in which it is said to be the stronger one.")
    run_id: int | None = Field(description="The run that trained it.")
    specialist_id: int | None = Field(None, description="The fine-tuning that made it.")
    owner: str | None = Field(
        None, description="Who registered it, brought it or had it made; null for what experiments named and runs made."
    )
    origin: Literal["named", "registered", "kept", "taught", "run"] = Field(
        "named",
        description="`named`: an experiment names it. `registered`: somebody put it on the list. `kept`: copied or uploaded into the "
        "studio's home. `taught`: a fine-tuning made it. `run`: a run trained it.",
    )
    created_at: datetime = Field(description="When it was made.")


class DomainShape(Shape):
    """A domain that experiments named, or that was made of an upload."""

    id: int = Field(description="Number of the domain.")
    name: str = Field(description="As the experiment names it.")
    train: str = Field(description="Source of the training questions.")
    validation: str = Field(description="Source of the questions that the gate reads.")
    test: str = Field(description="Source of the questions of the final score.")
    verifier: str = Field(description="How an answer is checked.")
    created_at: datetime = Field(description="When it was made.")
    upload_id: int | None = Field(None, description="The upload that it was made of; null for one that lies where an experiment says.")
    owner: str | None = Field(None, description="Who uploaded it.")


class DataFinding(Shape):
    """One thing about a domain's data."""

    kind: str = Field(description="`unanswerable`, `test_in_train`, `duplicates`, `imbalance`, `long_prompts`, ...")
    severity: Literal["stops", "warns", "notes"] = Field(description="`stops`: no run can use the data as they are.")
    message: str = Field(description="What, and how often.")
    advice: str = Field(description="What to do about it.")
    count: int = Field(description="How many rows or questions it concerns.")
    examples: list[str] = Field(description="Where: some ids or lines.")


class SplitShape(Shape):
    """What a split of a domain holds; lengths are in characters of the prompt."""

    split: Literal["train", "validation", "test"] = Field(description="Which one.")
    source: str = Field(description="Where its rows come from.")
    rows: int = Field(description="Rows in the source.")
    usable: int = Field(description="Of these, with a prompt and an answer that the verifier can check.")
    answers: list[tuple[str, int]] = Field(description="The most frequent answers, with their counts.")
    distinct_answers: int = Field(description="How many different ones there are.")
    majority: float | None = Field(description="Score of always giving the most frequent answer.")
    length_median: float | None = Field(description="Of the prompts.")
    length_max: int | None = Field(description="Of the longest prompt.")
    with_solution: int = Field(description="Questions with a worked solution, which fine-tuning can use.")


class DomainQuestion(Shape):
    """A question of a domain."""

    id: str = Field(description="Its id within the domain.")
    prompt: str = Field(description="As a student sees it.")
    answer: str = Field(description="The reference answer.")


class DomainCheck(Shape):
    """What is in a domain's files, and what is wrong with them."""

    domain: DomainShape = Field(description="The domain.")
    readable_here: bool = Field(
        description="False: its sources are the hub's, or lie where this server may not look; a worker checks them as a run starts."
    )
    usable: bool | None = Field(description="Whether a run can use the data as they are; null where they could not be read here.")
    splits: list[SplitShape] = Field(description="Train, validation, test.")
    findings: list[DataFinding] = Field(description="What stops a run first.")
    sample: list[DomainQuestion] = Field(description="The first usable training questions.")


class StudentFinding(Shape):
    """One thing about a student's files."""

    kind: str = Field(description="`tokenizer`, `chat_template`, `damaged`, `missing_parts`, `adapters`, ...")
    severity: Literal["stops", "warns", "notes"] = Field(description="`stops`: it cannot be loaded as it is.")
    message: str = Field(description="What it is.")
    advice: str = Field(description="What to do about it.")


class StudentCheck(Shape):
    """Whether a student can be loaded, as far as its files tell."""

    student: StudentShape = Field(description="The student.")
    state: Literal["whole", "hub", "missing", "hidden"] = Field(
        description="`whole`: its folder is complete. `hub`: to be fetched by a worker. `missing`: `message` says what is wrong. "
        "`hidden`: it lies where this server may not look."
    )
    message: str | None = Field(None, description="What is wrong, in words.")
    advice: str | None = Field(None, description="What to do.")
    vocabulary: int | None = Field(None, description="Tokens that it knows, where its configuration says.")
    size_bytes: int | None = Field(None, description="Of its folder's files.")
    architecture: str | None = Field(None, description="Its class in transformers, as its configuration says.")
    parameters: int | None = Field(None, description="Numbers in its weights, as their headers say.")
    precision: str | None = Field(None, description="Of its largest tensor: `F32`, `BF16`, ...")
    context_tokens: int | None = Field(None, description="Longest sequence, where its configuration says.")
    has_chat_template: bool | None = Field(None, description="Whether its tokenizer brings one.")
    findings: list[StudentFinding] = Field([], description="What is worth knowing, what stops it first.")


class Worker(Shape):
    """A worker that was heard of in the last half minute."""

    name: str = Field(description="Host, process, device.")
    host: str = Field(description="Machine that it runs on.")
    pid: int = Field(description="Its process there.")
    device: str = Field(description="What it trains on.")
    labels: list[str] = Field(description="What it serves: `gpu`, `cpu`.")
    memory_gib: float | None = Field(description="Of its GPU; of several, the least.")
    gpus: int = Field(description="How many GPUs it has.")
    run_id: int | None = Field(description="The run it works on.")
    started_at: datetime = Field(description="When the process started.")
    seen_at: datetime = Field(description="When it last spoke.")


class AblationShape(Shape):
    """A sweep that the paper makes."""

    name: str = Field(description="Give it as `ablation`.")
    title: str = Field(description="What it is called.")
    description: str = Field(description="What is compared.")
    source: str = Field(description="Where the paper speaks of it.")
    grid: dict[str, list[Any]] = Field(description="Dotted path -> values.")
    overrides: list[dict[str, Any]] = Field(description="Settings of each point, where it is no grid.")


class SweepProgress(Shape):
    """Points of a sweep by where their runs stand."""

    points: int = Field(description="All of them.")
    waiting: int = Field(description="Queued or paused.")
    active: int = Field(description="With a worker.")
    completed: int = Field(description="With a verdict.")
    failed: int = Field(description="Ended by an error.")
    stopped: int = Field(description="By somebody.")
    deleted: int = Field(description="Points whose run is there no more.")
    over: bool = Field(description="No run waits or is with a worker.")


class Sweep(Shape):
    """One question asked of many experiments."""

    id: int = Field(description="Number of the sweep.")
    name: str = Field(description="What its owner calls it.")
    owner: str = Field(description="Who launched it.")
    preset: str | None = Field(description="The preset that all points are made from.")
    ablation: str | None = Field(description="The built-in sweep that it is.")
    axes: list[str] = Field(description="Dotted paths of the settings that vary.")
    created_at: datetime = Field(description="When it was made.")
    progress: SweepProgress = Field(description="How far it is.")


class SweepPoint(Shape):
    """One experiment of a sweep, and its run."""

    place: int = Field(description="From 0.")
    values: dict[str, Any] = Field(description="Dotted path -> value, of the settings that vary.")
    experiment_id: int = Field(description="What it runs.")
    run: Run | None = Field(description="Null once it was deleted.")


class SweepDetail(Sweep):
    """A sweep with its points."""

    points: list[SweepPoint] = Field(description="In the order of the grid.")


class PlannedPoint(Shape):
    """A point that would be made."""

    name: str = Field(description="What its experiment would be called.")
    values: dict[str, Any] = Field(description="Dotted path -> value, of the settings that vary.")


class SweepCheck(Shape):
    """The answer to a dry run of a sweep."""

    valid: bool = Field(description="Always true: what is not valid is a 422.")
    axes: list[str] = Field(description="Dotted paths of the settings that vary.")
    points: list[PlannedPoint] = Field(description="In the order of the grid.")
