"""Taking students in and letting them go: files first, then SQL; what was copied for nothing is removed again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from sqlalchemy import Engine

from app.artefacts.store import Store
from app.db import reading, writing
from app.library import folders, students
from app.library.folders import KeptFolder, Source
from app.library.students import NewStudent
from app.settings import Settings

Upload = tuple[str, IO[bytes], int]
"""Name, content, bytes."""


def register(engine: Engine, settings: Settings, new: NewStudent, *, person: str) -> int:
    """Look at the model and put it on the list, copied first where it is to be kept.

    Raises:
        Invalid: its name is taken, or the model cannot be used.
        NoRoom: the disk is full.
    """
    folder = students.look(new)
    if folder is None or not new.keep:
        with writing(engine) as session:
            return students.register(session, settings, new, person=person)
    return _keep(engine, settings, new.name, new.native_domain, folders.of_folder(folder), field="model", person=person)


def upload(
    engine: Engine, settings: Settings, name: str, native_domain: str | None, files: Sequence[Upload], *, field: str, person: str
) -> int:
    """Make a student of what was uploaded: the files of a model folder, or a tar of them.

    Raises:
        Invalid: its name is taken, or the files are no student that can be loaded.
        NoRoom: the disk is full.
    """
    sources = (source for filename, opened, size in files for source in folders.of_upload(filename, opened, size, field=field))
    return _keep(engine, settings, name, native_domain, sources, field=field, person=person)


def keep(engine: Engine, settings: Settings, store: Store, student_id: int, name: str, *, person: str) -> int:
    """Copy a student into the library.

    Raises:
        NotFound
        Invalid: its name is taken, or it is no student that can be loaded.
        Refused: it cannot be read here.
        NoRoom: the disk is full.
        StoreError
    """
    with reading(engine) as session:
        row = students.get(session, student_id)
    sources = students.sources(row, settings, store)
    return _keep(engine, settings, name, row.native_domain, sources, field="student", person=person)


def forget(engine: Engine, settings: Settings, student_id: int) -> None:
    """Take a student off the list, and remove the folder that was kept for it.

    Raises:
        NotFound
        Refused
    """
    with writing(engine) as session:
        place = students.forget(session, settings, student_id)
    if place is not None:
        folders.remove(settings, place)


def _keep(
    engine: Engine, settings: Settings, name: str, native_domain: str | None, sources: Iterable[Source], *, field: str, person: str
) -> int:
    with reading(engine) as session:
        students.free_name(session, name)  # before the work
    kept = folders.keep(settings, name, sources, field=field)
    with _undone(settings, kept), writing(engine) as session:
        return students.keep(session, name, kept, native_domain, person=person)


@contextmanager
def _undone(settings: Settings, kept: KeptFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        folders.remove(settings, kept.place)
        raise
