"""Chats: one question to one or two students, sampled by a worker's job and kept, so that their answers stand side by side."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlmodel import Session, col, select

from app import shapes
from app.errors import Fault, Invalid, NotFound
from app.experiments.experiments import readable
from app.guards import roots
from app.library import students
from app.library.shapes import Chat
from app.lifecycle import jobs
from app.lifecycle.queueing import Needs
from app.records import queries
from app.records.jobs_read import error_of, job_of_kind, newest_first
from app.records.library_checks import domain_config
from app.settings import Settings
from app.tables import JobRow
from opcod.config import DomainConfig
from opcod.errors import DataError
from opcod.tasks.questions import LONGEST_ID, DomainData, load_domain
from opcod.types import Question

KIND = "chat"
LARGEST_ID = 2**31 - 1
LONGEST_QUESTION = 20_000
OFFERED = 200
"""Questions of a domain that the page offers."""


class NewChat(BaseModel):
    """A question to one or two students: one of your own, or a domain's."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"students": [1, 2], "question": "How many protons have 2 atoms of iron?", "temperature": 0}]},
    )

    students: list[int] = Field(description="Numbers of the students.", min_length=1, max_length=2)
    question: str | None = Field(None, description="What to ask.", max_length=LONGEST_QUESTION)
    system: str | None = Field(None, description="System prompt, of a question of your own.", max_length=LONGEST_QUESTION)
    domain_id: int | None = Field(None, description="The domain to take a question of; then the verifier judges.", ge=1, le=LARGEST_ID)
    question_id: str | None = Field(None, description="Its id there.", min_length=1, max_length=LONGEST_ID)
    temperature: float = Field(0.6, description="Sampling temperature; 0 is greedy.", ge=0, le=5, allow_inf_nan=False)
    top_p: float = Field(0.95, description="Nucleus.", gt=0, le=1, allow_inf_nan=False)
    max_tokens: int = Field(256, description="Longest answer, in tokens.", ge=1, le=8192)
    samples: int = Field(1, description="Answers of each student.", ge=1, le=16)
    seed: int = Field(0, description="The same seed gives the same answers.", ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _one_question(self) -> NewChat:
        own = self.question is not None and self.question.strip() != ""
        if (self.domain_id is None) != (self.question_id is None):
            raise ValueError("domain_id and question_id go together")
        if own == (self.domain_id is not None):
            raise ValueError("give a question of your own, or a domain's")
        if self.question is not None and "\x00" in f"{self.question}{self.system}":
            raise ValueError("a question holds no NUL")
        return self


def ask(session: Session, settings: Settings, new: NewChat, *, person: str) -> int:
    """Put it on the list of jobs; its number.

    Raises:
        Invalid: there is no such student, domain or question, or a student may not be used here.
        Refused: too many jobs of this person wait.
    """
    asked = []
    for index, student_id in enumerate(new.students):
        try:
            row = students.get(session, student_id)
        except NotFound as error:
            raise Invalid([Fault(f"students.{index}", str(error), "Choose one of the list.")]) from None
        model = students.reference(row, settings)
        if faults := roots.model_faults(model, f"students.{index}"):
            raise Invalid(faults)
        asked.append({"student_id": row.id, "name": row.name, "model": model})
    request: dict[str, Any] = new.model_dump(include={"temperature", "top_p", "max_tokens", "samples", "seed"}) | {"students": asked}
    if new.domain_id is not None:
        try:
            domain, data = domain_questions(session, new.domain_id)
        except NotFound as error:
            raise Invalid([Fault("domain_id", str(error), "Choose one of the list.")]) from None
        question = next((one for one in all_questions(data) if one.id == new.question_id), None)
        if question is None:
            raise Invalid([Fault("question_id", f"{domain.name} has no question of that id.", "Choose one of its own.")])
        known = {"domain": domain.name, "question_id": question.id, "answer": question.answer, "verifier": domain.verifier.model_dump()}
        request |= known | {"question": question.prompt, "system": question.system}
    else:
        request |= {"question": new.question, "system": new.system if new.system and new.system.strip() else None}
    job = jobs.create(session, KIND, owner=person, needs=Needs(), request=request)
    assert job.id is not None
    return job.id


def domain_questions(session: Session, domain_id: int) -> tuple[DomainConfig, DomainData]:
    """A domain and its questions.

    Raises:
        NotFound
        Invalid: they cannot be read here.
    """
    domain = domain_config(session, queries.domain_row(session, domain_id))
    if not readable(domain) or not all(roots.may_read(source) for source in (domain.train, domain.validation, domain.test)):
        raise Invalid([Fault("domain_id", f"The questions of {domain.name} cannot be read here.", "Write the question yourself.")])
    try:
        return domain, load_domain(domain)
    except DataError as error:
        raise Invalid([Fault("domain_id", error.message, error.advice)]) from None


def all_questions(data: DomainData) -> tuple[Question, ...]:
    """Of all splits; those that no student trains on first."""
    return (*data.validation, *data.test, *data.train)


def chat(session: Session, job_id: int) -> Chat:
    """One chat.

    Raises:
        NotFound
    """
    return _shape(job_of_kind(session, KIND, job_id))


def listing(session: Session, *, before: int | None = None, limit: int = 50) -> shapes.Listing[Chat]:
    """All of them, the newest first."""
    rows = select(JobRow).where(col(JobRow.kind) == KIND)
    return newest_first(session, rows, _shape, before=before, limit=limit)


def _shape(job: JobRow) -> Chat:
    asked: dict[str, Any] = {"domain": None, "question_id": None, "answer": None} | job.request
    return Chat.model_validate(
        {name: value for name, value in asked.items() if name != "verifier"}
        | job.model_dump(include={"id", "owner", "state", "created_at", "ended_at"})
        | {"answers": (job.result or {}).get("answers", []), "error": error_of(job)}
    )
