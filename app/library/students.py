"""Students of the library: where each lies, what is known of it, and those that people register, bring or have made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete
from sqlmodel import Session, col, select

from app import shapes
from app.artefacts import bundle
from app.artefacts.store import Store, local_store
from app.errors import Fault, Invalid, NotFound, Refused
from app.guards import roots
from app.library import folders
from app.library.folders import KeptFolder, Source
from app.lifecycle.runs import ENDED
from app.records import artefact_queries
from app.settings import Settings
from app.tables import ExperimentRow, RunRow, StudentRow
from opcod.config import LONGEST_SOURCE, Name
from opcod.errors import ModelError
from opcod.students.facts import StudentFacts, student_facts
from opcod.students.references import DEMO_FOLDER, locate

PAGE = 50
OFFERED = 200
"""Students that forms offer."""


class NewStudent(BaseModel):
    """A student to register."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "physicist", "model": "demo:densities", "native_domain": "densities"}]}
    )

    name: Name = Field(description="What to call it: letters, digits, `_`, `.` and `-`.")
    model: str = Field(
        description="Hub id, or a folder on the server with safetensors.",
        min_length=1,
        max_length=LONGEST_SOURCE,
        pattern=r"^[^\x00-\x1f]+$",
    )
    native_domain: Name | None = Field(None, description="Domain in which it is the stronger one.")
    keep: bool = Field(False, description="Copy the folder into the studio's home, so that it stays whatever becomes of the original.")


class KeepStudent(BaseModel):
    """A copy to keep of a student."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "physicist-2"}]})

    name: Name = Field(description="What to call the copy.")


@dataclass(frozen=True, slots=True)
class Choice:
    """A student that a form offers."""

    id: int | None
    model: str
    label: str


def get(session: Session, student_id: int) -> StudentRow:
    """One student as it is stored.

    Raises:
        NotFound
    """
    row = session.get(StudentRow, student_id) if 0 < student_id < 2**63 else None
    if row is None:
        raise NotFound("student", student_id)
    return row


def reference(row: StudentRow, settings: Settings) -> str:
    """What an experiment writes to name it."""
    if row.run_id is not None:
        return str(settings.runs_folder / row.model)
    return str(settings.library_folder / row.model) if row.kept else row.model


def shape(row: StudentRow, settings: Settings) -> shapes.StudentShape:
    """As REST and pages tell it."""
    origin = "run" if row.run_id is not None else "taught" if row.job_id is not None else "kept" if row.kept else "registered"
    values = row.model_dump(exclude={"kept", "job_id", "model"})
    origin = "named" if origin == "registered" and row.owner is None else origin
    return shapes.StudentShape.model_validate(values | {"model": reference(row, settings), "specialist_id": row.job_id, "origin": origin})


def listing(session: Session, settings: Settings, *, before: int | None = None, limit: int = PAGE) -> shapes.Listing[shapes.StudentShape]:
    """Known students, newest first."""
    rows = select(StudentRow).order_by(col(StudentRow.id).desc())
    if before is not None:
        rows = rows.where(col(StudentRow.id) < before)
    found = session.exec(rows.limit(limit + 1)).all()
    items = [shape(row, settings) for row in found[:limit]]
    return shapes.Listing(items=items, next_cursor=str(items[-1].id) if len(found) > limit else None)


def choices(session: Session, settings: Settings) -> list[Choice]:
    """The newest students, each model once, and the built-in ones."""
    rows = session.exec(select(StudentRow).order_by(col(StudentRow.id).desc()).limit(OFFERED)).all()
    found = dict[str, Choice]()
    for row in rows:
        model = reference(row, settings)
        source = f", run {row.run_id}" if row.run_id is not None else ", specialist" if row.job_id is not None else ""
        found.setdefault(model, Choice(row.id, model, f"{row.name}{source}"))
    for folder in sorted(DEMO_FOLDER.iterdir()) if DEMO_FOLDER.is_dir() else ():
        if folder.is_dir():
            found.setdefault(f"demo:{folder.name}", Choice(None, f"demo:{folder.name}", f"built-in {folder.name}"))
    return list(found.values())


def check(row: StudentRow, settings: Settings) -> shapes.StudentCheck:
    """Look at the student's folder, if it is one; what lies outside of the bounds is not looked at."""
    student = shape(row, settings)
    if not roots.may_read(student.model, is_model=True):
        return shapes.StudentCheck(student=student, state="hidden")
    try:
        place = Path(locate(student.model))
        if not place.is_dir():
            return shapes.StudentCheck(student=student, state="hub")
        return _told(student, student_facts(place))
    except ModelError as error:
        return shapes.StudentCheck(student=student, state="missing", message=error.message, advice=error.advice)
    except OSError as error:
        return shapes.StudentCheck(student=student, state="missing", message=f"Its folder cannot be read: {error.strerror}.")


def _told(student: shapes.StudentShape, facts: StudentFacts) -> shapes.StudentCheck:
    stop = next((finding for finding in facts.findings if finding.severity == "stops"), None)
    return shapes.StudentCheck(
        student=student,
        state="whole" if stop is None else "missing",
        message=stop.message if stop else None,
        advice=stop.advice if stop else None,
        vocabulary=facts.vocabulary,
        size_bytes=facts.size_bytes,
        architecture=facts.architecture,
        parameters=facts.parameters,
        precision=facts.precision,
        context_tokens=facts.context_tokens,
        has_chat_template=facts.has_chat_template,
        findings=[shapes.StudentFinding.model_validate(finding) for finding in facts.findings],
    )


def register(session: Session, settings: Settings, new: NewStudent, *, person: str) -> int:
    """Put a student on the list; its number. A folder that is to be kept was copied before (see `copied`).

    Raises:
        Invalid: its name is taken, or the model cannot be used.
    """
    free_name(session, new.name)
    return add(session, StudentRow(name=new.name, model=new.model, native_domain=new.native_domain, owner=person))


def look(new: NewStudent) -> Path | None:
    """The folder that it names, seen to be whole; None for a hub id.

    Raises:
        Invalid: it lies outside of the bounds, or is no student that can be loaded.
    """
    if faults := roots.model_faults(new.model, "model"):
        raise Invalid(faults)
    try:
        place = Path(locate(new.model))
    except ModelError as error:
        raise Invalid([Fault("model", error.message, error.advice)]) from None
    if not place.is_dir():
        if new.keep:
            raise Invalid([Fault("keep", "A model of the hub is fetched by workers; there is nothing here to copy.", "Leave it out.")])
        return None
    folders.check(place, new.model, "model")
    return place


def free_name(session: Session, name: str) -> None:
    """See that no student that somebody registered or made is called so.

    Raises:
        Invalid
    """
    taken = select(col(StudentRow.id)).where(col(StudentRow.name) == name, col(StudentRow.owner).is_not(None)).limit(1)
    if session.exec(taken).first() is not None:
        raise Invalid([Fault("name", f"There is a student called {name} already.", "Choose another name.")])


def add(session: Session, row: StudentRow) -> int:
    """Store it; one that an experiment named in the same way becomes theirs who register it."""
    known = session.exec(select(StudentRow).where(col(StudentRow.name) == row.name, col(StudentRow.model) == row.model)).first()
    if known is not None:
        known.owner, known.native_domain = known.owner or row.owner, row.native_domain or known.native_domain
        row = known
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def keep(session: Session, name: str, kept: KeptFolder, native_domain: str | None, *, person: str) -> int:
    """Put a folder that was copied or uploaded on the list.

    Raises:
        Invalid: its name is taken.
    """
    free_name(session, name)
    return add(session, StudentRow(name=name, model=kept.place, native_domain=native_domain, owner=person, kept=True))


def sources(row: StudentRow, settings: Settings, store: Store) -> Iterable[Source]:
    """The files of a student, wherever it lies.

    Raises:
        NotFound: a run's export is gone.
        Refused: it lies on the hub, or where this server may not look.
        StoreError
    """
    if row.run_id is not None:
        prefix, sizes = _export(row, store)
        return (Source(name, store.chunks(f"{prefix}/{name}", size), size) for name, size in sizes.items())
    return folders.of_folder(_folder(row, settings))


def tar(row: StudentRow, settings: Settings, store: Store) -> tuple[str, int, Iterator[bytes]]:
    """A student's folder as an archive: its root's name, its bytes, and what they are.

    Raises: as `sources`.
    """
    root = row.name if row.run_id is None else f"run-{row.run_id}-{row.name}"
    root = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in root)
    if row.run_id is not None:
        prefix, sizes = _export(row, store)
    else:
        folder = _folder(row, settings)
        store, prefix = local_store(folder.parent), folder.name
        sizes = {name: size for name, size in sorted(store.sizes(prefix).items()) if "/" not in name}
    if not any(name.endswith(".safetensors") for name in sizes):
        raise Refused("Its weights are links to files elsewhere, which are not given out.", "Copy them into its folder.")
    return root, bundle.tar_size(sizes, root), bundle.tar(store, prefix, sizes, root)


def _export(row: StudentRow, store: Store) -> tuple[str, dict[str, int]]:
    run, _, student = row.model.partition(f"/{artefact_queries.EXPORTS}/")
    return f"{run}/{artefact_queries.EXPORTS}/{student}", artefact_queries.export_files(store, run, student)


def _folder(row: StudentRow, settings: Settings) -> Path:
    model = reference(row, settings)
    if not roots.may_read(model, is_model=True):
        raise Refused("It lies outside of the folders that this server may look into.", "Admins add folders in OPCOD_ROOTS.")
    try:
        place = Path(locate(model))
    except ModelError as error:
        raise Refused(error.message, error.advice) from None
    if not place.is_dir():
        raise Refused("It lies on the hub.", "Fetch it from there.")
    return place


def forget(session: Session, settings: Settings, student_id: int) -> str | None:
    """Take a student off the list; returns the folder that goes with it, to be removed after the commit.

    Raises:
        NotFound
        Refused: it belongs to a run or an experiment, or a run that has not ended needs it.
    """
    row = get(session, student_id)
    if row.run_id is not None:
        raise Refused(f"It was trained by run {row.run_id}, and goes with it.", "Delete the run.")
    if row.owner is None:
        raise Refused("It is listed because an experiment names it.", "Experiments are never changed; leave it.")
    if row.kept and (needed := _needed_by(session, reference(row, settings))):
        raise Refused(f"Run {needed} needs it and has not ended.", "Stop the run, or wait for its end.")
    session.exec(delete(StudentRow).where(col(StudentRow.id) == row.id))
    return row.model if row.kept else None


def _needed_by(session: Session, model: str) -> int | None:
    waiting = select(RunRow.id, ExperimentRow.config).join(ExperimentRow, col(ExperimentRow.id) == col(RunRow.experiment_id))
    for run_id, config in session.exec(waiting.where(col(RunRow.status).not_in(ENDED))).all():
        if any(student["model"] == model for student in config["students"]):
            return run_id
    return None


def used_by(session: Session, row: StudentRow, settings: Settings, limit: int = 20) -> Sequence[tuple[int, str]]:
    """Number and name of the newest runs that train this model."""
    model, found = reference(row, settings), list[tuple[int, str]]()
    newest = select(RunRow.id, RunRow.name, ExperimentRow.config).join(ExperimentRow, col(ExperimentRow.id) == col(RunRow.experiment_id))
    for run_id, name, config in session.exec(
        newest.where(col(RunRow.deleted_at).is_(None)).order_by(col(RunRow.id).desc()).limit(500)
    ).all():
        if run_id is not None and any(student["model"] == model for student in config["students"]):
            found.append((run_id, name))
    return found[:limit]
