"""What feedback broke and rescued: by round, and by how hard the question was for the tutee."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from app.tables import BreakRescueRow, RunRow
from app.web.contexts import Cast
from opcod.evaluation.intervals import wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of counted answers with its 95 % interval (Wilson); nothing where none was counted."""

    part: int
    whole: int

    @property
    def share(self) -> float | None:
        return self.part / self.whole if self.whole else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.part, self.whole)


@dataclass(frozen=True, slots=True)
class BreakRescueLine:
    """How a tutor's feedback changed a tutee's answers, in a round or on questions of one difficulty."""

    about: str
    round: int | None
    tutee: str
    tutee_hue: int
    tutor: str
    tutor_hue: int
    broken: Rate
    rescued: Rate


@dataclass(frozen=True, slots=True)
class BreakRescueTables:
    """Over all difficulties round by round, and over all rounds by difficulty."""

    by_round: tuple[BreakRescueLine, ...]
    by_difficulty: tuple[BreakRescueLine, ...]


def break_rescue(session: Session, run: RunRow, cast: Cast) -> BreakRescueTables | None:
    """Everything that was measured; None where nothing was."""
    rows = session.exec(select(BreakRescueRow).where(col(BreakRescueRow.run_id) == run.id).order_by(col(BreakRescueRow.seq))).all()
    if not rows:
        return None
    by_round = [_line(cast, [row], f"Round {row.round}", row.round) for row in rows if row.difficulty_low is None]
    groups: defaultdict[tuple[str, str, int, int], list[BreakRescueRow]] = defaultdict(list)
    for row in rows:
        if row.difficulty_low is not None and row.difficulty_high is not None:
            groups[row.tutee, row.tutor, row.difficulty_low, row.difficulty_high].append(row)
    by_difficulty = [
        _line(cast, group, f"{low} to {high}" if low < high else f"{low}", None)
        for (_, _, low, high), group in sorted(groups.items(), key=lambda item: (cast.hue(item[0][0]), item[0][1:]))
    ]
    return BreakRescueTables(tuple(by_round), tuple(by_difficulty))


def _line(cast: Cast, rows: Sequence[BreakRescueRow], about: str, round: int | None) -> BreakRescueLine:
    first = rows[0]
    return BreakRescueLine(
        about,
        round,
        first.tutee,
        cast.hue(first.tutee),
        first.tutor,
        cast.hue(first.tutor),
        Rate(sum(row.broken for row in rows), sum(row.correct_before for row in rows)),
        Rate(sum(row.rescued for row in rows), sum(row.wrong_before for row in rows)),
    )
