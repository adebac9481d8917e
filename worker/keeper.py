"""Keeps what one attempt makes: ships log and checkpoints to the store while it trains, and says in SQL what there is.

Where no store is set, the run's folder is the store: then nothing is copied, and only what SQL says is kept true. A store
that does not answer holds nothing up until `store_patience_seconds` have passed: training goes on, the page says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, insert, update
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlmodel import Session, col, or_, select

from app.artefacts.logs import FOLDER as LOG_FOLDER
from app.artefacts.logs import WHOLE as WHOLE_LOG
from app.artefacts.store import Store, StoreError
from app.db import now, writing
from app.errors import LeaseLost
from app.lifecycle import runs
from app.lifecycle.runs import Claim
from app.records import notices
from app.tables import AttemptRow, CheckpointRow, EventRow, RunRow
from opcod.training.manifest import Keeping, manifest_name, manifest_paths
from worker.mirror import Cancelled, Holdings, Mirror
from worker.run_log import RunLog
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

KEEPING = {"keep_checkpoints": 2, "keep_first": False, "keep_best": False}
"""Of the configuration's section `recording`, in the order of `Keeping`; experiments of earlier versions lack some."""
LONGEST_PAUSE_SECONDS = 15.0
"""Between two tries of a store that does not answer."""


class Keeper:
    """`prepare`, then `start`, then `conclude`; `cancel` at any time, from any thread."""

    def __init__(self, settings: WorkerSettings, engine: Engine, claim: Claim, store: Store, changed: Callable[[int], None]) -> None:
        self._settings, self._engine, self._claim, self._store, self._changed = settings, engine, claim, store, changed
        self._folder = settings.run_folder(claim.folder)
        self._cancelled, self._ended = threading.Event(), threading.Event()
        self._failing_since: float | None = None
        self._log_fault: str | None = None
        self._more = False
        self._mirror: Mirror | None = None
        if settings.store_url:
            recording = claim.config.get("recording", {})
            keeping = Keeping(*(recording.get(name, default) for name, default in KEEPING.items()))
            self._mirror = Mirror(store, claim.folder, self._folder, keeping=keeping, tell=self._tell, cancelled=self._cancelled.is_set)
        self._threads: list[threading.Thread] = []
        self.log: RunLog
        """Since `prepare`."""

    @property
    def given_up(self) -> bool:
        """The store has not answered for too long."""
        return self._failing_since is not None and time.monotonic() - self._failing_since > self._settings.store_patience_seconds

    def cancel(self) -> None:
        """Begin nothing more; what is under way ends after its present file."""
        self._cancelled.set()

    def prepare(self) -> None:
        """Have the newest whole checkpoint and the exports that the run's students come from on this machine; open the log.

        Raises:
            StoreError: the store has not answered for too long.
            ResourceError: this machine's disk is full.
            Cancelled
        """
        shipped: dict[str, int] = {}
        if self._mirror is not None:
            self._persist(self._mirror.restore)
            self._persist(self._fetch_students)
            self._persist(lambda: shipped.update(self._shipped_log()))
        self.log = RunLog(self._folder, shipped, most_bytes=int(self._settings.log_mib * 2**20))
        self._introduce()
        self._book()

    def start(self) -> None:
        """Look after log and checkpoints, each on a thread of its own: a large upload must not hold the log up."""
        for work in (self._follow_log, self._follow_checkpoints):
            thread = threading.Thread(target=work, name=work.__name__.strip("_").replace("_", " "), daemon=True)
            thread.start()
            self._threads.append(thread)

    def conclude(self, *, completed: bool) -> None:
        """Return once everything that the attempt made is in the store; exports are whole only where it completed.

        Raises:
            StoreError: the store has not answered for too long.
            Cancelled
        """
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self._mirror is not None:
            self._persist(self._mirror.push)
            if completed:
                self._persist(self._mirror.push_exports)
            self._persist(self._ship_log)
        if not self._cancelled.is_set():
            self._book()

    def _follow_log(self) -> None:
        while not self._ended.wait(self._settings.ship_seconds):
            if self._log_fault != self.log.fault:
                self._log_fault = self.log.fault
                self._note(partial(_say_log_fault, run_id=self._claim.run_id, fault=self._log_fault))
            if self._mirror is not None:
                self._try(self._ship_log)

    def _follow_checkpoints(self) -> None:
        seen: object = None
        pause = self._settings.ship_seconds
        while not self._ended.wait(pause):
            there = [path.name for path in manifest_paths(self._folder)]
            if there == seen:
                continue
            if not self._try(self._ship_checkpoint):
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause, seen = self._settings.ship_seconds, None if self._more else there
            self._book()

    def _ship_checkpoint(self) -> None:
        self._more = self._mirror is not None and self._mirror.push()

    def _ship_log(self) -> None:
        self.log.ship(self._store, self._claim.folder)

    def _shipped_log(self) -> dict[str, int]:
        prefix = f"{self._claim.folder}/{LOG_FOLDER}"
        found = {f"{LOG_FOLDER}/{name}": size for name, size in self._store.sizes(prefix).items()}
        if not found:
            with suppress(FileNotFoundError):
                found[WHOLE_LOG] = self._store.size(f"{self._claim.folder}/{WHOLE_LOG}")
        return found

    def _fetch_students(self) -> None:
        """Students that earlier runs exported: their folder on this machine may be empty, and the store has them."""
        for student in self._claim.config.get("students", []):
            path = Path(str(student.get("model", "")))
            if not path.is_absolute() or path.exists() or not path.is_relative_to(self._settings.runs_folder):
                continue
            key = path.relative_to(self._settings.runs_folder).as_posix()
            for name, size in self._store.sizes(key).items():
                self._store.fetch(f"{key}/{name}", path / name, size)

    def _introduce(self) -> None:
        """How the run came here: its log should not be empty while libraries are loaded."""
        try:
            with writing(self._engine) as session:
                run, attempt = session.get(RunRow, self._claim.run_id), session.get(AttemptRow, self._claim.token)
        except (OperationalError, InterfaceError):
            return
        if run is None or attempt is None:
            return
        waited = f" after {(attempt.started_at - run.queued_at).total_seconds():.0f} s in the queue" if run.queued_at else ""
        self.log.say(f"run {run.id} was claimed by {attempt.worker} on {attempt.device}{waited} (attempt {attempt.id})")
        newest = next((path.name for path in manifest_paths(self._folder)), None)
        self.log.say(f"its newest checkpoint here is {newest}" if newest else "it has no checkpoint: it begins at the start")
        self.log.say("starting the training process")

    def _try(self, action: Callable[[], object]) -> bool:
        """Do it, once; a store that fails is noted, and noted again when it is back."""
        try:
            action()
        except Cancelled:
            return False
        except StoreError as error:
            first = self._failing_since is None
            self._failing_since = self._failing_since or time.monotonic()
            if first:
                log.warning("run %s: %s", self._claim.run_id, error)
                text = f"{error.message} The run goes on and is kept on the worker's disk alone until the store answers."
                self._note(lambda session: notices.add(session, self._claim.run_id, "store", text))
            return False
        if self._failing_since is not None:
            self._failing_since = None
            log.info("run %s: the store answers again", self._claim.run_id)
            self._note(lambda session: notices.end(session, self._claim.run_id, "store"))
        return True

    def _persist(self, action: Callable[[], object]) -> None:
        """Do it, again and again until the store lets it be done.

        Raises:
            StoreError: it has not for `store_patience_seconds`.
            Cancelled
        """
        pause = 0.2
        while not self._try(action):
            if self.given_up:
                action()  # raises what is wrong, unless it is mended just now
                return
            if self._cancelled.wait(pause):
                raise Cancelled
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _book(self) -> None:
        """Say in SQL which checkpoints there are and what the run takes."""
        try:
            if self._mirror is not None:
                held, damaged = self._mirror.holdings(), self._mirror.damaged
            else:
                here = frozenset(path.name for path in manifest_paths(self._folder))
                held, damaged = Holdings(here, here, sum(self._store.sizes(self._claim.folder).values())), set()
        except StoreError:
            return  # said elsewhere; the next look tells
        self._note(lambda session: _book(session, self._claim.run_id, held, damaged))

    def _tell(self, message: str) -> None:
        log.warning("run %s: %s", self._claim.run_id, message)
        self._note(lambda session: notices.add(session, self._claim.run_id, "checkpoint", message))

    def _note(self, change: Callable[[Session], None]) -> None:
        """Write to SQL what is of use and not of need: where the database is away it is left out."""
        try:
            with writing(self._engine) as session:
                runs.hold(session, self._claim.run_id, self._claim.token)
                change(session)
        except LeaseLost:
            self.cancel()
            return
        except (OperationalError, InterfaceError) as error:
            log.warning("run %s: the database does not answer: %s", self._claim.run_id, error.orig)
            return
        self._changed(self._claim.run_id)


def _say_log_fault(session: Session, run_id: int, fault: str | None) -> None:
    notices.end(session, run_id, "log")
    if fault is not None:
        notices.add(session, run_id, "log", f"The run's log cannot be written ({fault}); training goes on without it.")


def _book(session: Session, run_id: int, held: Holdings, damaged: set[str]) -> None:
    session.exec(update(RunRow).where(col(RunRow.id) == run_id).values(size_bytes=held.size_bytes))
    named = [f"checkpoints/{name}" for name in held.whole | held.here]
    concerned = or_(col(CheckpointRow.state).in_(("saving", "whole")), col(CheckpointRow.path).in_(named))
    newest, changed = max(held.here, default=""), False
    for row in session.exec(select(CheckpointRow).where(col(CheckpointRow.run_id) == run_id, concerned)).all():
        name, before = manifest_name(row.seq), row.state
        if name in held.whole:
            row.state = "whole"
        elif name in held.here or name > newest:  # its event is stored before its manifest is written
            row.state = "saving"
        else:
            row.state = "damaged" if name in damaged else "deleted"
        changed = changed or row.state != before
    if changed:
        session.exec(insert(EventRow).values(run_id=run_id, seq=None, kind="checkpoints_changed", data={}, at=now()))
