"""What a run was expected to take, beside what it took."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session

from app.experiments import estimates
from app.records import queries
from opcod.estimation.words import FIGURES, between


@dataclass(frozen=True, slots=True)
class TakenRow:
    """One figure in words; `off` is how far what was taken lies above what was expected, as a fraction of that."""

    label: str
    expected: str
    interval: str
    taken: str
    off: float | None
    within: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """All figures; none for a run that was launched by an earlier version."""

    run_id: int
    rows: tuple[TakenRow, ...]
    preflight_id: int | None = None
    """The pre-flight that looked at its settings before."""


def taken(session: Session, run_id: int) -> Taken:
    """The run's estimate, and what it took once it has completed.

    Raises:
        NotFound
    """
    found = estimates.of_run(session, queries.run_row(session, run_id))
    if found.predicted is None:
        return Taken(run_id, ())
    rows = []
    for label, name, words in FIGURES:
        if name == "tokens":  # what scoring sampled is on nobody's record
            continue
        figure = getattr(found.predicted, name)
        value = getattr(found.achieved, name, None)
        known = figure.value is not None
        rows.append(
            TakenRow(
                label=label,
                expected=words(figure.value) if known else "",
                interval=between(figure.low, figure.high, words) if known else "",
                taken=words(value) if value is not None else "",
                off=value / figure.value - 1 if known and value is not None else None,
                within=not known or value is None or figure.low <= value <= figure.high,
            )
        )
    return Taken(run_id, tuple(rows), found.preflight_id)
