"""What the pages of domains and students show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session

from app import shapes
from app.records import queries
from app.records.library_checks import check_domain, check_student, runs_of_domain

PAGE = 50
STATES: Mapping[str, tuple[str, str, str]] = {
    "whole": ("Whole", "right", "Its folder has a configuration and weights in safetensors."),
    "hub": ("On the hub", "", "A worker fetches it when a run needs it."),
    "missing": ("Not loadable", "wrong", "No run can load it as it is here."),
    "hidden": ("Not looked at", "", "It lies outside of the folders that this server may look into (OPCOD_ROOTS)."),
}


@dataclass(frozen=True, slots=True)
class DomainsList:
    """Domains that experiments named."""

    domains: tuple[shapes.DomainShape, ...]
    before: int | None
    next_before: str | None


@dataclass(frozen=True, slots=True)
class AnswerBar:
    """An answer's share of a split, in thousandths."""

    answer: str
    count: int
    share: float
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class SplitCard:
    """A split with its answers as a bar."""

    summary: shapes.SplitShape
    answers: tuple[AnswerBar, ...]


@dataclass(frozen=True, slots=True)
class DomainPage:
    """One domain, looked at."""

    check: shapes.DomainCheck
    splits: tuple[SplitCard, ...]
    runs: tuple[shapes.Run, ...]


@dataclass(frozen=True, slots=True)
class StudentLine:
    """A student and whether its files are there."""

    check: shapes.StudentCheck
    word: str
    tone: str
    meaning: str


@dataclass(frozen=True, slots=True)
class StudentsList:
    """Students that experiments named or runs made."""

    lines: tuple[StudentLine, ...]
    before: int | None
    next_before: str | None


def domains_list(session: Session, *, before: int | None = None) -> DomainsList:
    """The newest domains; `before` pages to older ones."""
    listing = queries.domains(session, before=before, limit=PAGE)
    return DomainsList(tuple(listing.items), before, listing.next_cursor)


def domain_page(session: Session, domain_id: int) -> DomainPage:
    """One domain.

    Raises:
        NotFound
    """
    row = queries.domain_row(session, domain_id)
    check = check_domain(session, domain_id)
    return DomainPage(check, tuple(SplitCard(split, _bars(split)) for split in check.splits), tuple(runs_of_domain(session, row)))


def students_list(session: Session, runs_folder: Path, *, before: int | None = None) -> StudentsList:
    """The newest students; `before` pages to older ones."""
    listing = queries.students(session, before=before, limit=PAGE)
    checks = [check_student(session, student.id, runs_folder) for student in listing.items]
    return StudentsList(tuple(StudentLine(check, *STATES[check.state]) for check in checks), before, listing.next_cursor)


def _bars(split: shapes.SplitShape) -> tuple[AnswerBar, ...]:
    """Shares of the most frequent answers; none where nearly every question has an answer of its own."""
    if not split.usable or split.distinct_answers > len(split.answers):
        return ()
    bars, place = [], 0.0
    for answer, count in sorted(split.answers):
        share = count / split.usable
        start = round(1000 * place)
        place += share
        bars.append(AnswerBar(answer, count, share, start, max(1, round(1000 * place) - start - 3)))
    return tuple(bars)
