"""What REST and pages read of artefacts: files in the store, exports, notices, and what takes how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlmodel import Session, col, select

from app import shapes
from app.artefacts.store import Store
from app.artefacts.usage import usage
from app.errors import NotFound
from app.records import notices
from app.tables import RunRow

BIGGEST = 50
EXPORTS = "exports"
EXPORT_MARK = "config.json"
"""What an export has once it is whole: the worker stores it last."""
KINDS: Mapping[str, Literal["checkpoint", "export", "log"]] = {
    "checkpoints": "checkpoint",
    "tutors": "checkpoint",
    EXPORTS: "export",
    "log": "log",
    "log.txt": "log",
}


def artefacts(store: Store, run_folder: str) -> shapes.Listing[shapes.Artefact]:
    """Every file of a run in the store, by path.

    Raises:
        StoreError
    """
    sizes = store.sizes(run_folder)
    items = [
        shapes.Artefact(path=path, kind=KINDS.get(path.partition("/")[0], "other"), size_bytes=size) for path, size in sorted(sizes.items())
    ]
    return shapes.Listing(items=items)


def exports(store: Store, run_folder: str) -> list[shapes.ExportShape]:
    """The run's students as model folders, whole ones only.

    Raises:
        StoreError
    """
    sizes = store.sizes(f"{run_folder}/{EXPORTS}")
    students = sorted(path.removesuffix(f"/{EXPORT_MARK}") for path in sizes if path.count("/") == 1 and path.endswith(f"/{EXPORT_MARK}"))
    return [
        shapes.ExportShape(student=student, size_bytes=sum(size for path, size in sizes.items() if path.startswith(f"{student}/")))
        for student in students
    ]


def export_files(store: Store, run_folder: str, student: str) -> dict[str, int]:
    """File -> bytes of a student's export.

    Raises:
        NotFound: there is no such export, or it is not whole yet.
        StoreError
    """
    if student not in {found.student for found in exports(store, run_folder)}:
        raise NotFound("export of", student)
    return dict(sorted(store.sizes(f"{run_folder}/{EXPORTS}/{student}").items()))


def notices_of(session: Session, run_id: int) -> shapes.Listing[shapes.NoticeShape]:
    """The run's notices, newest first."""
    return shapes.Listing(items=[shapes.NoticeShape.model_validate(row) for row in notices.of_run(session, run_id)])


def storage(session: Session) -> shapes.Storage:
    """What everything takes, and the runs that take most."""
    used = usage(session)
    rows = select(RunRow).where(col(RunRow.deleted_at).is_(None), col(RunRow.size_bytes) > 0)
    biggest = session.exec(rows.order_by(col(RunRow.size_bytes).desc(), col(RunRow.id)).limit(BIGGEST)).all()
    return shapes.Storage(
        used_bytes=used.used_bytes,
        budget_bytes=used.budget_bytes or None,
        state=used.state,
        message=used.message,
        runs=[shapes.StoredRun.model_validate(row) for row in biggest],
    )
