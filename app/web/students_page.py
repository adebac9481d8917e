"""What the pages of students show: the list, one student, and the forms that bring new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlmodel import Session

from app import shapes
from app.library import specialists, students
from app.library.shapes import Specialist
from app.library.students import Choice
from app.settings import Settings
from app.web.form_faults import Faults, SentForm

PAGE = 50
UNDER_WAY = 10
STATES: Mapping[str, tuple[str, str, str]] = {
    "whole": ("Whole", "right", "Its folder has a configuration, a tokenizer and weights in safetensors."),
    "hub": ("On the hub", "", "A worker fetches it when a run needs it."),
    "missing": ("Not loadable", "wrong", "No run can load it as it is here."),
    "hidden": ("Not looked at", "", "It lies outside of the folders that this server may look into (OPCOD_ROOTS)."),
}
ORIGINS: Mapping[str, str] = {
    "named": "named by an experiment", "registered": "registered", "kept": "kept here", "taught": "specialist", "run": "trained by a run",
}  # fmt: skip
SEVERITIES: Mapping[str, tuple[str, str]] = {"stops": ("Stops it", "wrong"), "warns": ("Look at it", "warn"), "notes": ("Note", "")}


@dataclass(frozen=True, slots=True)
class StudentLine:
    """A student and whether its files are there."""

    check: shapes.StudentCheck
    word: str
    tone: str
    meaning: str
    origin: str


@dataclass(frozen=True, slots=True)
class StudentsList:
    """Students, and the specialists that are being made."""

    lines: tuple[StudentLine, ...]
    making: tuple[Specialist, ...]
    before: int | None
    next_before: str | None


@dataclass(frozen=True, slots=True)
class StudentPage:
    """One student, looked at."""

    line: StudentLine
    findings: tuple[tuple[shapes.StudentFinding, str, str], ...]
    runs: tuple[tuple[int, str], ...]
    forgettable: bool
    exportable: bool
    faults: Faults = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewStudentPage:
    """Both ways to bring a student."""

    register: SentForm
    upload: SentForm
    most_megabytes: float


@dataclass(frozen=True, slots=True)
class Choices:
    """Students that a field offers."""

    choices: tuple[Choice, ...]


def students_list(session: Session, settings: Settings, *, before: int | None = None) -> StudentsList:
    """The newest students; `before` pages to older ones."""
    listing = students.listing(session, settings, before=before, limit=PAGE)
    lines = tuple(_line(students.check(students.get(session, student.id), settings)) for student in listing.items)
    making = () if before is not None else tuple(specialists.listing(session, limit=UNDER_WAY).items)
    return StudentsList(lines, tuple(one for one in making if one.state != "completed"), before, listing.next_cursor)


def student_page(session: Session, settings: Settings, student_id: int, form: SentForm | None = None) -> StudentPage:
    """One student.

    Raises:
        NotFound
    """
    row = students.get(session, student_id)
    check = students.check(row, settings)
    form = form or SentForm()
    return StudentPage(
        line=_line(check),
        findings=tuple((finding, *SEVERITIES[finding.severity]) for finding in check.findings),
        runs=tuple(students.used_by(session, row, settings)),
        forgettable=row.owner is not None and row.run_id is None,
        exportable=check.state == "whole" or row.run_id is not None,
        faults=form.faults,
        sent=form.sent,
    )


def _line(check: shapes.StudentCheck) -> StudentLine:
    return StudentLine(check, *STATES[check.state], ORIGINS[check.student.origin])
