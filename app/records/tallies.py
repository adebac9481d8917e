"""Exchanges counted by step while they arrive, so that charts never read the exchanges themselves.

Bins of histograms are a quarter of an octave wide: bin b holds values in [2^(b/4), 2^((b+1)/4)); "zero" holds what is not
above 0.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.records.chart_shapes import Histogram, HistogramBin, Histograms, Quantity, Tallies, Tally
from app.records.kept_charts import kept
from app.records.windows import Window, steps_done
from app.tables import ChartDigestRow, StepTallyRow
from opcod.events import ExchangeRecorded
from opcod.types import Exchange, FeedbackOutcome

OUTCOMES: tuple[FeedbackOutcome, ...] = get_args(FeedbackOutcome)
COUNTS = ("rollouts", "correct", "truncated", "tokens", *OUTCOMES)
BINS_PER_OCTAVE = 4
ZERO = "zero"


def bin_of(value: float) -> str:
    """The bin of a value."""
    return str(math.floor(BINS_PER_OCTAVE * math.log2(value))) if value > 0 else ZERO


def edges(name: str) -> tuple[float, float]:
    """[low, high) of a bin."""
    return (0.0, 0.0) if name == ZERO else (2 ** (int(name) / BINS_PER_OCTAVE), 2 ** ((int(name) + 1) / BINS_PER_OCTAVE))


def add(session: Session, run_id: int, events: Iterable[ExchangeRecorded]) -> None:
    """Count exchanges that were not known before. The caller holds the run's row, so that nobody counts beside it."""
    steps: defaultdict[tuple[str, int], list[ExchangeRecorded]] = defaultdict(list)
    for event in events:
        steps[event.exchange.tutee, event.exchange.step].append(event)
    for (student, step), batch in steps.items():
        nothing: Any = dict.fromkeys(COUNTS, 0)
        row = session.get(StepTallyRow, (run_id, student, step)) or StepTallyRow(
            run_id=run_id,
            student=student,
            step=step,
            round=batch[0].exchange.round,
            **nothing,
            at=batch[-1].at,
        )
        counts: Counter[str] = Counter()
        histograms = {name: Counter(bins) for name, bins in row.histograms.items()}
        for event in batch:
            rollout, feedback = event.exchange.rollout, event.exchange.feedback
            counts["correct"] += rollout.correct
            counts["truncated"] += rollout.truncated
            counts["tokens"] += rollout.tokens
            if feedback:
                counts[feedback.outcome] += 1
            for name, value in _quantities(event.exchange).items():
                histograms.setdefault(name, Counter())[bin_of(value)] += 1
        counts["rollouts"] = len(batch)
        for column, count in counts.items():
            setattr(row, column, getattr(row, column) + count)
        row.histograms = {name: dict(bins) for name, bins in histograms.items()}
        row.at = batch[-1].at
        session.add(row)


def _quantities(exchange: Exchange) -> dict[Quantity, float]:
    found: dict[Quantity, float] = {"response_tokens": exchange.rollout.tokens}
    if exchange.feedback:
        found["feedback_characters"] = len(exchange.feedback.raw)
    if exchange.divergence_mean is not None:
        found["divergence"] = exchange.divergence_mean
    return found


def tallies(session: Session, run_id: int, window: Window, student: str | None = None) -> Tallies:
    """Exchanges within the window, counted by runs of steps; of every student, or of one."""
    window = window.settled(steps_done(session, run_id))
    if window.is_whole and student is None and (found := kept(session, [run_id], "tallies", window.width)):
        return Tallies.model_validate_json(found[run_id, ""])
    return Tallies(width=window.width, items=_counted(session, run_id, window, student, col(StepTallyRow.step) // window.width))


def tallies_by_round(session: Session, run_id: int, window: Window, student: str | None = None) -> Tallies:
    """The same, counted by rounds."""
    if window.is_whole and student is None and (found := kept(session, [run_id], "rounds", 0)):
        return Tallies.model_validate_json(found[run_id, ""])
    return Tallies(width=0, items=_counted(session, run_id, window, student, col(StepTallyRow.round)))


def _counted(session: Session, run_id: int, window: Window, student: str | None, group: Any) -> list[Tally]:
    row: Any = StepTallyRow
    counts = [func.sum(getattr(row, name)) for name in COUNTS]
    ends = [end(getattr(row, name)) for name in ("step", "round", "at") for end in (func.min, func.max)]
    found = session.exec(
        select(row.student, *ends, *counts)
        .where(*_of(run_id, student), *window.conditions(row))
        .group_by(row.student, group)
        .order_by(col(row.student), func.min(row.step))
    ).all()
    before = _tokens_before(session, run_id, window)
    items = []
    for tutee, first, last, first_round, last_round, begun, at, rollouts, correct, truncated, tokens, *outcomes in found:
        items.append(
            Tally(
                student=tutee,
                first=first,
                last=last,
                first_round=first_round,
                last_round=last_round,
                rollouts=rollouts,
                correct=correct,
                truncated=truncated,
                tokens=int(tokens),
                tokens_before=before.get(tutee, 0),
                outcomes={name: count for name, count in zip(OUTCOMES, outcomes, strict=True) if count},
                begun_at=begun,
                at=at,
            )
        )
        before[tutee] = before.get(tutee, 0) + int(tokens)
    return items


def _tokens_before(session: Session, run_id: int, window: Window) -> dict[str, int]:
    row = StepTallyRow
    if window.begins <= 0:
        return {}
    rows = select(row.student, func.sum(row.tokens)).where(col(row.run_id) == run_id, col(row.step) < window.begins)
    return {student: int(tokens) for student, tokens in session.exec(rows.group_by(row.student)).all()}


def _of(run_id: int, student: str | None) -> list[Any]:
    mine = [col(StepTallyRow.run_id) == run_id]
    return mine if student is None else [*mine, col(StepTallyRow.student) == student]


def histograms(session: Session, run_id: int, quantity: Quantity, window: Window, student: str | None = None) -> Histograms:
    """How a quantity is spread, by runs of steps; of every student, or of one."""
    row = StepTallyRow
    window = window.settled(steps_done(session, run_id))
    if (
        window.is_whole
        and student is None
        and (found := kept(session, [run_id], "histograms", window.width, [col(ChartDigestRow.name) == quantity]))
    ):
        return Histograms.model_validate_json(found[run_id, quantity])
    rows = select(row.student, row.step, col(row.histograms)[quantity]).where(*_of(run_id, student), *window.conditions(row))
    groups: dict[tuple[str, int], tuple[list[int], dict[str, int]]] = {}
    for tutee, step, counts in session.exec(rows.order_by(col(row.student), col(row.step))).all():
        if counts:
            steps, total = groups.setdefault((tutee, step // window.width), ([], {}))
            steps.append(step)
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
    items = [Histogram(student=key[0], first=steps[0], last=steps[-1], bins=_bins(total)) for key, (steps, total) in groups.items()]
    return Histograms(quantity=quantity, width=window.width, items=items)


def _bins(counts: Mapping[str, int]) -> Sequence[HistogramBin]:
    found = sorted((*edges(name), count) for name, count in counts.items())
    return [HistogramBin(low=low, high=high, count=count) for low, high, count in found]
