"""Making a specialist: fine-tuning told as it goes, the student put on the list when it is done (see `opcod.students.specialist`)."""

from __future__ import annotations

import logging
import shutil
import time
from typing import Any

import torch
from sqlmodel import Session

from app.db import now
from app.errors import Invalid
from app.guards import roots
from app.library import students
from app.library.folders import FOLDER
from app.lifecycle import jobs
from app.tables import StudentRow
from opcod.errors import ConfigError
from opcod.plain_text import bounded, folder_name
from opcod.students.specialist import When, make_specialist
from opcod.students.specialist_config import SpecialistConfig
from opcod.training.hosts import available_cores
from opcod.types import Evaluation
from worker.job import Job
from worker.loss_curve import LossCurve

EVERY_SECONDS = 0.7
"""At most so often is told what there is; a step costs nothing between."""
MOST_LINES = 200
LOOK_SHARE = 0.1
"""Of the progress, for each look at the validation questions."""


class _Told(logging.Handler):
    """What is known of a fine-tuning that is under way; also hears what the library logs."""

    def __init__(self, job: Job, *, looks: bool) -> None:
        super().__init__(logging.INFO)
        self._job, self._share = job, LOOK_SHARE if looks else 0.02
        self._told_at = self._begun = 0.0
        self.curve = LossCurve()
        self.facts: dict[str, Any] = {"phase": "Starting", "step": 0, "steps": None, "eta_seconds": None, "log": []}
        self.progress = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage())

    def say(self, text: str) -> None:
        line = {"at": now().isoformat(), "text": bounded(text, 500)}
        self.facts["log"] = [*self.facts["log"][-MOST_LINES + 1 :], line]

    def phase(self, words: str) -> None:
        self.facts |= {"phase": words, "eta_seconds": None}
        self.say(f"{words}.")
        self.tell()

    def step(self, step: int, steps: int, loss: float) -> None:
        moment = time.monotonic()
        self._begun = self._begun or moment
        self.curve.add(step, loss)
        left = (moment - self._begun) / (step - 1) * (steps - step) if step > 1 else None
        self.facts |= {"step": step, "steps": steps, "eta_seconds": left}
        self.progress = self._share + (1 - 2 * self._share) * step / steps
        if step in (1, steps) or step % max(1, steps // 20) == 0:
            self.say(f"Step {step} of {steps}: loss {loss:.4f}.")
        if moment - self._told_at >= EVERY_SECONDS or step == steps:
            self.tell()

    def score(self, when: When, score: Evaluation) -> None:
        names = ("score", "low", "high", "questions", "samples", "majority_baseline")
        self.facts[when] = {name: getattr(score, name) for name in names}
        self.say(f"{100 * score.score:.1f} % right {when} ({100 * score.low:.1f} to {100 * score.high:.1f}), {score.questions} questions.")
        self.tell()

    def tell(self) -> None:
        self._told_at = time.monotonic()
        self._job.tell(self.progress, self.result())

    def result(self) -> dict[str, Any]:
        return self.facts | {"curve": self.curve.columns()}


def carry_out(job: Job) -> dict[str, Any]:
    """Fine-tune, and put the student on the list.

    Raises:
        UserError: data, base model or memory are missing, or the loss is not finite.
        JobLost: nobody wants it any more.
    """
    config = SpecialistConfig.model_validate(job.request["config"])
    name = job.request["name"]
    place = f"{FOLDER}/{folder_name(name)}-{job.id}"
    out = job.settings.library_folder / place
    torch.set_num_threads(max(1, available_cores() // 2))
    told = _Told(job, looks=config.look.questions > 0)
    library = logging.getLogger("opcod")
    library.addHandler(told)
    try:
        with roots.confined(roots.folders_of(job.settings)):
            _see_bounds(config)
            report = make_specialist(config, out, on_step=told.step, on_score=told.score, on_phase=told.phase)
        told.facts |= {"examples": report.examples, "skipped": report.skipped, "phase": "Done", "eta_seconds": None}
        if report.skipped:
            told.say(f"{report.skipped} questions were longer than {config.sft.max_tokens} tokens and left out.")
        told.say(f"{report.examples} questions learned, {report.learned_tokens:,} tokens in all.")
        told.progress = 1.0
        told.tell()  # also sees that it is still wanted
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    finally:
        library.removeHandler(told)
    row = StudentRow(name=name, model=place, native_domain=config.domains[0].name, owner=job.owner, kept=True, job_id=job.id)
    job.records.append(lambda session: _record(session, row, job.id))
    return told.result()


def _see_bounds(config: SpecialistConfig) -> None:
    sources = [source for domain in config.domains for source in (domain.train, domain.validation, domain.test)]
    if not all(map(roots.may_read, sources)) or not roots.may_read(config.model, is_model=True):
        raise ConfigError(roots.OUTSIDE, advice="Admins add folders in OPCOD_ROOTS.")


def _record(session: Session, row: StudentRow, job_id: int) -> None:
    """The name may have been taken meanwhile: the work is not lost for that."""
    try:
        students.free_name(session, row.name)
    except Invalid:
        row.name = f"{row.name[:50]}-{job_id}"
    student_id = students.add(session, row)
    job = jobs.get(session, job_id)
    job.result = {**(job.result or {}), "student_id": student_id}
    session.add(job)
