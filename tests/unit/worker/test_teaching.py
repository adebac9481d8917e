"""A specialist made and two students asked, as a worker's job does it, on the demo's own students."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from app.db import reading, writing
from app.experiments import experiments
from app.experiments.experiments import check_experiment
from app.library import chats, specialists, students
from app.library.chats import NewChat
from app.library.specialists import NewSpecialist
from app.lifecycle import jobs
from app.lifecycle.jobs import JobLost
from app.lifecycle.queueing import PLAIN_CPU
from opcod.students.facts import student_facts
from worker.job import carry_out
from worker.loss_curve import MOST, LossCurve
from worker.settings import WorkerSettings

SMALL: dict[str, Any] = {
    "sft": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "adapters": None},
    "look": {"questions": 8, "samples": 1, "max_response_tokens": 24, "temperature": 0},
}


@pytest.fixture
def densities(engine: Engine) -> int:
    with writing(engine) as session:
        experiments.create(session, check_experiment(None, "tiny", {}))
    return 1


def ask(session: Session, domain: int, **more: Any) -> int:
    return specialists.ask(session, NewSpecialist(name="smith", model="demo:novice", domain_id=domain, **SMALL, **more), person="ann")


def work(engine: Engine, settings: WorkerSettings) -> None:
    with writing(engine) as session:
        claim = jobs.claim(session, worker="here", lease_seconds=60, offer=PLAIN_CPU)
    assert claim is not None
    carry_out(engine, settings, claim.job_id, claim.token)


def test_a_specialist_is_made_listed_and_asked_beside_its_base(engine: Engine, settings: WorkerSettings, densities: int) -> None:
    with writing(engine) as session:
        job_id = ask(session, densities)
    work(engine, settings)
    with reading(engine) as session:
        made = specialists.specialist(session, job_id)
        assert (made.state, made.error, made.progress) == ("completed", None, 1.0)
        assert made.before is not None
        assert made.after is not None
        assert made.change == pytest.approx(made.after.score - made.before.score)
        assert (made.step, made.curve.last[-1], made.skipped) == (made.steps, made.steps, 0)
        assert made.curve.mean[-1] < made.curve.mean[0]
        assert any("validation questions, after" in line.text for line in made.log)
        row = students.get(session, made.student_id or 0)
        assert (row.name, row.owner, row.job_id, row.native_domain) == ("smith", "ann", job_id, "densities")
        folder = Path(students.reference(row, settings))
        assert student_facts(folder).loadable
        assert students.shape(row, settings).origin == "taught"
        _, data = chats.domain_questions(session, densities)

    with writing(engine) as session:
        base = next(choice.id for choice in students.choices(session, settings) if choice.model == "demo:densities")
        question = data.validation[0].id
        asked = NewChat(students=[row.id or 0, base or 0], domain_id=densities, question_id=question, temperature=0, max_tokens=24)
        chat_id = chats.ask(session, settings, asked, person="ann")
    work(engine, settings)
    with reading(engine) as session:
        chat = chats.chat(session, chat_id)
    assert (chat.state, len(chat.answers), chat.answer) == ("completed", 2, data.validation[0].answer)
    for answer in chat.answers:
        (sample,) = answer.samples
        assert sample.text
        assert sample.correct == (sample.extracted == chat.answer)


def test_one_that_nobody_wants_any_more_leaves_nothing(engine: Engine, settings: WorkerSettings, densities: int) -> None:
    with writing(engine) as session:
        job_id = ask(session, densities)
        claim = jobs.claim(session, worker="here", lease_seconds=60, offer=PLAIN_CPU)
        assert claim is not None
        jobs.cancel(session, job_id)
    with pytest.raises(JobLost):
        carry_out(engine, settings, claim.job_id, claim.token)
    assert not [place for place in settings.library_folder.glob("students/*") if place.is_dir()]


def test_the_curve_keeps_every_step_in_a_bounded_number_of_entries() -> None:
    curve = LossCurve()
    for step in range(1, 5_001):
        curve.add(step, float(step))
    told = curve.columns()
    assert len(told["first"]) <= MOST
    assert (told["first"][0], told["last"][-1]) == (1, 5_000)
    assert all(last + 1 == first for last, first in zip(told["last"], told["first"][1:], strict=False))
    sizes = [last - first + 1 for first, last in zip(told["first"], told["last"], strict=True)]
    total = sum(mean * size for mean, size in zip(told["mean"], sizes, strict=True))
    assert total == pytest.approx(5_000 * 5_001 / 2, rel=1e-4)
    assert (min(told["low"]), max(told["high"])) == (1.0, 5_000.0)
