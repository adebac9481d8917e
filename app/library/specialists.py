"""Specialists: a base student fine-tuned on a domain's training questions by a worker's job, and put on the list."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from app import shapes
from app.errors import Fault, Invalid, NotFound
from app.experiments.experiments import readable
from app.guards import roots
from app.library import students
from app.library.shapes import LossCurve, Specialist
from app.lifecycle import jobs
from app.lifecycle.queueing import CPU, GPU, Needs
from app.records import queries
from app.records.jobs_read import error_of, job_of_kind, newest_first
from app.records.library_checks import domain_config
from app.tables import JobRow
from opcod.config import LONGEST_SOURCE, DomainConfig, Name
from opcod.errors import ModelError, UserError
from opcod.students.facts import student_facts
from opcod.students.references import locate
from opcod.students.sft_config import SftConfig
from opcod.students.specialist_config import LookConfig, SpecialistConfig
from opcod.tasks.questions import load_domain

KIND = "specialist"
LARGEST_ID = 2**31 - 1


class NewSpecialist(BaseModel):
    """A specialist to make."""

    model_config = ConfigDict(
        extra="forbid",
        protected_namespaces=(),
        json_schema_extra={"examples": [{"name": "chemist", "model": "demo:novice", "domain_id": 1, "sft": {"epochs": 3}}]},
    )

    name: Name = Field(description="What to call the student that is made.")
    model: str = Field(
        description="Base model: hub id, folder on the server, `demo:NAME`; what `/students` gives as `model`.",
        min_length=1,
        max_length=LONGEST_SOURCE,
        pattern=r"^[^\x00-\x1f]+$",
    )
    domain_id: int = Field(description="Whose training questions teach it.", ge=1, le=LARGEST_ID)
    learn: Literal["solutions", "answers"] = Field(
        "solutions", description="Each question's worked solution, or its bare answer as the verifier reads it."
    )
    sft: SftConfig = Field(SftConfig(), description="How; the defaults are the paper's.")
    look: LookConfig = Field(LookConfig(), description="How it is scored on validation questions before and after.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.", pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Precision of weights and activations.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass: less memory, more time.")


def ask(session: Session, new: NewSpecialist, *, person: str) -> int:
    """Put it on the list of jobs; its number.

    Raises:
        Invalid: its name is taken, there is no such domain, or base model or data cannot be used.
        Refused: too many jobs of this person wait.
    """
    students.free_name(session, new.name)
    _free_of_others(session, new.name)
    _see_model(new.model)
    try:
        domain = domain_config(session, queries.domain_row(session, new.domain_id))
    except NotFound as error:
        raise Invalid([Fault("domain_id", str(error), "Choose one of the list.")]) from None
    _see_domain(domain, new.learn)
    values = new.model_dump(exclude={"name", "domain_id"}) | {"domains": [domain]}
    request = {"name": new.name, "config": SpecialistConfig.model_validate(values).model_dump(mode="json")}
    needs = Needs(GPU if new.device.startswith("cuda") else CPU if new.device == "cpu" else None)
    job = jobs.create(session, KIND, owner=person, needs=needs, request=request)
    assert job.id is not None
    return job.id


def _free_of_others(session: Session, name: str) -> None:
    waiting = session.exec(select(JobRow).where(col(JobRow.kind) == KIND, col(JobRow.state).in_(jobs.OPEN))).all()
    if any(job.request["name"] == name for job in waiting):
        raise Invalid([Fault("name", f"A specialist called {name} is being made already.", "Choose another name.")])


def _see_model(model: str) -> None:
    if faults := roots.model_faults(model, "model"):
        raise Invalid(faults)
    try:
        place = Path(locate(model))
        stops = [finding for finding in student_facts(place).findings if finding.severity == "stops"] if place.is_dir() else []
    except ModelError as error:
        raise Invalid([Fault("model", error.message, error.advice)]) from None
    except OSError as error:
        raise Invalid([Fault("model", f"Its folder cannot be read: {error.strerror}.", "Mend its permissions.")]) from None
    if stops:
        raise Invalid([Fault("model", stops[0].message, stops[0].advice)])


def _see_domain(domain: DomainConfig, learn: str) -> None:
    """As far as it can be read here; the worker looks again."""
    sources = (domain.train, domain.validation, domain.test)
    if not readable(domain):
        return
    if not all(roots.may_read(source) for source in sources):
        raise Invalid([Fault("domain_id", roots.OUTSIDE, "Admins add folders in OPCOD_ROOTS.")])
    try:
        data = load_domain(domain)
    except UserError as error:
        raise Invalid([Fault("domain_id", error.message, error.advice)]) from None
    without = sum(question.solution is None for question in data.train)
    if without and learn == "solutions":
        message = f"{without} of {len(data.train)} training questions have no worked solution to learn from."
        raise Invalid([Fault("learn", message, "Fill the column `solution`, or learn the bare answers.")])


def specialist(session: Session, job_id: int) -> Specialist:
    """One of them.

    Raises:
        NotFound
    """
    return _shape(job_of_kind(session, KIND, job_id))


def listing(session: Session, *, before: int | None = None, limit: int = 50) -> shapes.Listing[Specialist]:
    """All of them, the newest first."""
    rows = select(JobRow).where(col(JobRow.kind) == KIND)
    return newest_first(session, rows, _shape, before=before, limit=limit)


def _shape(job: JobRow) -> Specialist:
    config = SpecialistConfig.model_validate(job.request["config"])
    found: dict[str, Any] = {
        "phase": None, "step": 0, "steps": None, "eta_seconds": None, "examples": None, "skipped": None, "before": None, "after": None,
        "log": [], "student_id": None,
    } | (job.result or {})  # fmt: skip
    found.setdefault("curve", LossCurve(width=1, first=[], last=[], mean=[], low=[], high=[]))
    before, after = found["before"], found["after"]
    return Specialist.model_validate(
        job.model_dump(include={"id", "owner", "state", "progress", "worker", "created_at", "started_at", "ended_at"})
        | {"name": job.request["name"], "model": config.model, "domain": config.domains[0].name, "learn": config.learn}
        | found
        | {"change": after["score"] - before["score"] if before and after else None, "error": error_of(job)}
    )


def config_of(session: Session, job_id: int) -> SpecialistConfig:
    """How it was asked for.

    Raises:
        NotFound
    """
    specialist(session, job_id)
    return SpecialistConfig.model_validate(jobs.get(session, job_id).request["config"])
