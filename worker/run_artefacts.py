"""What a run left, for jobs: where it lies on this machine, or fetched to it for as long as the job lasts."""

from __future__ import annotations

from pathlib import Path

from app.artefacts.store import Store
from opcod.errors import CheckpointError
from worker.job import Job

GONE = "Choose other weights: checkpoints are deleted as newer ones come, as the run's `recording` section says."


class RunArtefacts:
    """Files of the run: where they lie, or fetched to this machine."""

    def __init__(self, store: Store, run: str, job: Job) -> None:
        self._store, self._run, self._job = store, run, job

    def read(self, path: str) -> bytes:
        return self._store.read(f"{self._run}/{path}")

    def here(self, path: str) -> Path:
        """A file or folder on this machine.

        Raises:
            CheckpointError: it is gone.
        """
        settings = self._job.settings
        local = settings.run_folder(self._run) / path
        if not settings.store_url or local.exists():
            if not local.exists():
                raise CheckpointError(f"{path} of the run is gone.", advice=GONE)
            return local
        target = settings.job_folder(self._job.id) / path
        files = self._store.sizes(f"{self._run}/{path}")
        try:
            if not files:
                self._store.fetch(f"{self._run}/{path}", target, self._store.size(f"{self._run}/{path}"))
            for name, size in files.items():
                self._store.fetch(f"{self._run}/{path}/{name}", target / name, size)
        except FileNotFoundError:
            raise CheckpointError(f"{path} of the run is gone.", advice=GONE) from None
        return target
