"""A run's results as Markdown, from its events alone: what `python -m opcod report FOLDER` prints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import TypeVar, get_args

from opcod.errors import DataError
from opcod.events import (
    BreakRescueMeasured,
    EvaluationFinished,
    Event,
    ExchangeRecorded,
    GateDecided,
    RoundStarted,
    RunFinished,
    RunStarted,
    StepFinished,
)
from opcod.sinks import read_events
from opcod.types import BreakRescue, Evaluation, Exchange, FeedbackOutcome, GateDecision, Split, Verdict

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class RunRecord:
    """A run's events, sorted by kind."""

    start: RunStarted
    evaluations: list[Evaluation] = field(default_factory=list)
    decisions: list[GateDecision] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    steps: list[StepFinished] = field(default_factory=list)
    breaks: list[BreakRescue] = field(default_factory=list)
    verdict: Verdict | None = None
    stages: list[tuple[str, timedelta]] = field(default_factory=list)
    """Parts of the run and how long each took by the clock, stops in between included."""


def report_folder(folder: Path) -> str:
    """The report of the run in `folder`.

    Raises:
        DataError: there is no ``events.jsonl``, or it cannot be read.
    """
    path = folder / "events.jsonl"
    if not path.is_file():
        raise DataError(f"There is no {path}.", advice="Give the folder of a run that `python -m opcod train` made.")
    try:
        events = read_events(path)
    except ValueError as error:
        raise DataError(f"{path} holds a line that is no event: {error}", advice="Resume the run: it mends a half-written line.") from None
    return report(events)


def report(events: Sequence[Event]) -> str:
    """The report of a run's events; a run that is still under way is told as far as it got.

    Raises:
        DataError: the run has not started.
    """
    record = read_record(events)
    parts = (
        _heading(record),
        _scores(record),
        _gate(record),
        _feedback(record),
        _training(record),
        _breaks(record),
        _times(record),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def read_record(events: Sequence[Event]) -> RunRecord:
    """Sort events by kind.

    Raises:
        DataError: no event tells of the run's start.
    """
    start = next((event for event in events if isinstance(event, RunStarted)), None)
    if start is None:
        raise DataError("The run has not started.", advice="Look again once it has.")
    record = RunRecord(start)
    begun, stage = start.at, "test before training"
    for event in sorted(events, key=lambda event: event.seq):
        match event:
            case RoundStarted():
                record.stages.append((stage, event.at - begun))
                begun, stage = event.at, f"round {event.round}"
            case EvaluationFinished(evaluation=evaluation):
                if evaluation.round == start.rounds and not stage.startswith("final"):
                    last = record.steps[-1].at if record.steps else event.at
                    record.stages.append((stage, last - begun))
                    begun, stage = last, "final validation and test"
                record.evaluations.append(evaluation)
            case GateDecided(decision=decision):
                record.decisions.append(decision)
            case ExchangeRecorded(exchange=exchange):
                record.exchanges.append(exchange)
            case StepFinished():
                record.steps.append(event)
            case BreakRescueMeasured(result=result):
                record.breaks.append(result)
            case RunFinished(verdict=verdict):
                record.verdict = verdict
                record.stages.append((stage, event.at - begun))
            case _:
                pass
    return record


def _heading(record: RunRecord) -> str:
    start = record.start
    counts = "; ".join(f"{domain} {', '.join(f'{n} {split}' for split, n in splits.items())}" for domain, splits in start.questions.items())
    parameters = ", ".join(f"{student} {count:,}" for student, count in start.parameters.items())
    lines = [
        f"- students, with trainable parameters: {parameters}",
        f"- questions: {counts}",
        f"- {start.rounds} rounds of {start.steps_per_round} updates a student",
        *(f"- {note}" for note in start.notes),
        f"- verdict, mutual Pareto improvement on test: **{_word(record.verdict.mutual_improvement if record.verdict else None)}**",
    ]
    if record.verdict:
        lines += [
            f"- {student} Pareto-dominates its initial self: {_word(improved)}" for student, improved in record.verdict.students.items()
        ]
    return "\n".join(lines)


def _scores(record: RunRecord) -> str:
    sections = []
    splits: tuple[Split, ...] = ("test", "validation")
    for split in splits:
        of_split = [one for one in record.evaluations if one.split == split]
        rounds = sorted({one.round for one in of_split})
        if not rounds:
            continue
        samples = sorted({one.samples for one in of_split})
        head = ["student", "domain", "questions", *("before training" if r == 0 else f"after round {r}" for r in rounds)]
        rows = []
        for student, domain in dict.fromkeys((one.student, one.domain) for one in of_split):
            found = {one.round: one for one in of_split if (one.student, one.domain) == (student, domain)}
            any_one = next(iter(found.values()))
            cells = [_interval(found[r]) if r in found else "" for r in rounds]
            rows.append([student, domain, str(any_one.questions), *cells, _percent(any_one.majority_baseline)])
        title = f"### Scores on {split} questions (avg@{'/'.join(map(str, samples))}, 95 % bootstrap interval over questions)"
        sections.append(f"{title}\n\n{_table([*head, 'most frequent answer'], rows)}")
    return "\n\n".join(sections)


def _gate(record: RunRecord) -> str:
    rows = [
        [str(one.round), one.tutor, f"{one.gap:.3f}", f"{one.threshold:g}", _word(one.cognizant), ", ".join(one.domains) or "none: shut"]
        for one in record.decisions
    ]
    return f"### Gate\n\n{_table(['round', 'tutor', 'gap', 'tau', 'cognizant', 'may tutor on'], rows)}" if rows else ""


def _feedback(record: RunRecord) -> str:
    asked = [exchange for exchange in record.exchanges if exchange.feedback is not None]
    outcomes = get_args(FeedbackOutcome)
    rows = []
    for (round, tutee), group in _grouped(asked, lambda one: (one.round, one.tutee)):
        found = [one.feedback.outcome for one in group if one.feedback]
        cut = sum(bool(one.feedback and one.feedback.removed) for one in group)
        rows.append([str(round), tutee, str(len(found)), *(_share(found.count(o), len(found)) for o in outcomes), _share(cut, len(found))])
    head = ["round", "tutee", "feedbacks", *(f"`{outcome}`" for outcome in outcomes), "reveal cut out"]
    return f"### Feedback by outcome\n\n{_table(head, rows)}" if rows else ""


def _training(record: RunRecord) -> str:
    rows = []
    for (round, tutee), group in _grouped(record.exchanges, lambda one: (one.round, one.tutee)):
        steps = [step for step in record.steps if (step.round, step.tutee) == (round, tutee)]
        shown = [one for one in group if one.own_solution is not None]
        divergences = [one.divergence_mean for one in group if one.divergence_mean is not None]
        rows.append(
            [
                str(round),
                tutee,
                str(len(steps)),
                str(len(group)),
                _share(sum(one.rollout.correct for one in group), len(group)),
                _share(sum(one.rollout.extracted is not None for one in group), len(group)),
                f"{fmean(one.rollout.tokens for one in group):.0f}",
                _share(sum(one.in_loss for one in group), len(group)),
                _share(len(shown), len(group)),
                f"{fmean(divergences):.4f}" if divergences else "",
                str(sum(step.metrics.get(f"{tutee}/train/skipped_updates", 0.0) > 0 for step in steps)),
            ]
        )
    head = ["round", "tutee", "updates", "rollouts", "right", "answer found", "mean tokens", "in the loss", "own solution shown"]
    return f"### Training\n\n{_table([*head, 'divergence (nats a token)', 'skipped updates'], rows)}" if rows else ""


def _breaks(record: RunRecord) -> str:
    rows = []
    for (tutee, tutor, difficulty), group in _grouped(record.breaks, lambda one: (one.tutee, one.tutor, one.difficulty)):
        right, wrong = sum(one.correct_before for one in group), sum(one.wrong_before for one in group)
        broken, rescued = sum(one.broken for one in group), sum(one.rescued for one in group)
        level = "all" if difficulty is None else f"{difficulty[0]}-{difficulty[1]}"
        rows.append([tutee, tutor, level, _rate(broken, right), _rate(rescued, wrong)])
    head = ["tutee", "tutor", "wrong of the group", "broken of right", "rescued of wrong"]
    return f"### Break and rescue rates, all rounds\n\n{_table(head, rows)}" if rows else ""


def _times(record: RunRecord) -> str:
    rows = [[stage, _duration(took)] for stage, took in record.stages]
    if not rows:
        return ""
    rows.append(["**all**", _duration(sum((took for _, took in record.stages), timedelta()))])
    parts: dict[str, list[float]] = defaultdict(list)
    for step in record.steps:
        for name, value in step.metrics.items():
            if name.startswith(f"{step.tutee}/timing_s/"):
                parts[name.rpartition("/")[2]].append(value)
    mean = ", ".join(f"{name} {fmean(values):.1f} s" for name, values in parts.items())
    return f"### Wall time\n\n{_table(['part', 'time'], rows)}" + (f"\n\nMean of a step: {mean}." if mean else "")


def _grouped(items: Iterable[V], key: Callable[[V], K]) -> list[tuple[K, list[V]]]:
    """Items by key, in the order in which keys first appear."""
    groups: dict[K, list[V]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.1f} %"


def _share(part: int, whole: int) -> str:
    return _percent(part / whole) if whole else ""


def _rate(part: int, whole: int) -> str:
    return f"{_percent(part / whole)} ({part} of {whole})" if whole else "none"


def _interval(one: Evaluation) -> str:
    return f"{_percent(one.score)} ({one.low * 100:.1f}-{one.high * 100:.1f})"


def _duration(time: timedelta) -> str:
    minutes, seconds = divmod(round(time.total_seconds()), 60)
    return f"{minutes} min {seconds:02d} s"


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not known yet"}[value]
