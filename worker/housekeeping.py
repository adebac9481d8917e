"""Clears working copies on this machine that nobody needs: of runs that were deleted, and of those that are done and stored.

Where no store is set the runs' folder is the store itself, and nothing here touches it. A folder that SQL knows nothing of
is left alone: the worker may be looking at another database.
"""

from __future__ import annotations

import logging
import shutil

from sqlalchemy import Engine
from sqlmodel import col, select

from app.db import reading
from app.tables import DeletionRow, RunRow
from opcod.errors import ResourceError
from opcod.training.manifest import FOLDER, TUTORS
from worker.control import only_writer
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)


def tidy(settings: WorkerSettings, engine: Engine) -> None:
    """Look through the working copies once. Exports and logs of finished runs stay: models are loaded from there by path."""
    if not settings.store_url or not settings.runs_folder.is_dir():
        return
    names = [path.name for path in settings.runs_folder.iterdir() if path.is_dir()]
    with reading(engine) as session:
        deleted = set(session.exec(select(DeletionRow.folder).where(col(DeletionRow.folder).in_(names))).all())
        done = select(RunRow.folder).where(col(RunRow.folder).in_(names), col(RunRow.status) == "completed")
        completed = set(session.exec(done).all()) - deleted
    for name in sorted(deleted | completed):
        folder = settings.run_folder(name)
        gone = [folder] if name in deleted else [path for path in (folder / FOLDER, folder / TUTORS) if path.exists()]
        if not gone:
            continue
        try:
            with only_writer(folder, patience_seconds=0):
                for path in gone:
                    shutil.rmtree(path, ignore_errors=True)
        except (ResourceError, OSError):
            continue  # its training process is dying still
        log.info("cleared the working copy of %s", name)
