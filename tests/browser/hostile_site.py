"""A studio in which all that others wrote comes from a corpus, put into the tables past every check: pages bear it by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy import Engine
from sqlmodel import SQLModel, col, select

from app.access import sessions
from app.access.person import Person
from app.access.tables import AuditRow, PersonRow, SessionRow, TokenRow
from app.artefacts import logs
from app.artefacts.store import Store
from app.db import now, writing
from app.domains.files import Sent
from app.domains.uploads import receive
from app.records.ingest import ingest
from app.settings import Settings
from app.tables import (
    ExchangeRow,
    ExperimentRow,
    JobRow,
    NoticeRow,
    RunRow,
    StudentRow,
    SweepPointRow,
    SweepRow,
    TransitionRow,
    WorkerRow,
)
from app.web.inspector import PAGE
from app.webhooks.tables import DeliveryRow, DeliveryTryRow, WebhookRow
from opcod.events import ExchangeRecorded
from opcod.preflight.findings import Example, Finding, Preflight, PreflightSize, SelfTeacherGap, StudentFindings, judge
from opcod.types import BreakRescue, Evaluation, Exchange, Feedback, GateDecision, Question, Rollout
from tests.browser.conftest import Site
from tests.browser.seeding import Story, seed_run, start_run
from tests.people import add_person

SLOTS = 7
"""Texts of an exchange: each page of one bears so many of the corpus."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """Ids of what was put there."""

    list_run: int
    """Its exchanges bear one text each, in all places."""
    page_run: int
    """Its exchanges bear `SLOTS` texts each."""
    exchanges: tuple[int, ...]
    """Those of `page_run`."""
    archive_run: int
    """Everything else that a run's page tells bears all of the texts."""
    named_runs: tuple[int, ...]
    """Each has a text as its name."""
    sweep: int
    preflights: tuple[int, ...]
    """One that found something, and one that failed."""
    specialist: int
    mark: str
    """Of a session of the admin's."""


class Seeder:
    """Fills a studio, in which nothing was before but `person`, with `texts`."""

    def __init__(self, engine: Engine, store: Store, settings: Settings, person: Person, texts: Sequence[str]) -> None:
        self._engine, self._store, self._settings, self._person, self._texts = engine, store, settings, person, texts

    def seed(self) -> Seeded:
        list_run, page_run = self._run_with(self._one_each()), self._run_with(self._many_each())
        archive = seed_run(self._engine, Story(rounds=1, steps=2))
        named = self._named_runs(archive)
        with writing(self._engine) as session:
            run = session.get_one(RunRow, archive)
            run.name, run.tags, folder = self._part(1, 200), [self._part(number, 50) for number in range(32)], run.folder
            sweep = SweepRow(name=self._part(0, 200), owner=self._part(4, 64), axes=["method.gate.threshold", self._part(5, 60)])
            session.add(sweep)
            session.flush()
            assert sweep.id is not None
            for row in self._rows(archive, named, sweep.id):
                session.add(row)
                if isinstance(row, WebhookRow | DeliveryRow):
                    session.flush()  # others refer to it
            jobs = list(self._preflights(session.get_one(ExperimentRow, run.experiment_id).config))
            session.add_all(jobs)
            session.flush()
            preflights = tuple(job.id or 0 for job in jobs)
            specialist = self._specialist()
            session.add(specialist)
            session.flush()
            exchanges = session.exec(select(ExchangeRow.id).where(ExchangeRow.run_id == page_run).order_by(col(ExchangeRow.id))).all()
            mark, _ = sessions.open_session(session, self._settings, self._person.id or 0, address="127.0.0.1", agent="Chrome")
        self._store.put_bytes("\n".join(self._texts).encode(), f"{folder}/{logs.part_path(0)}")
        self._upload()
        return Seeded(
            list_run, page_run, tuple(one or 0 for one in exchanges), archive, named, sweep.id, preflights, specialist.id or 0, mark
        )

    def _part(self, number: int, most: int) -> str:
        """Text `number`, going round, as long as the service lets such a text become."""
        return self._texts[number % len(self._texts)][:most]

    def _upload(self) -> None:
        """The first upload: every text is a column's name and what stands in it, a question, an answer and a system prompt."""
        rows = [{**dict.fromkeys(("prompt", "answer", "system"), text), text[:150]: text[:2_000]} for text in self._texts]
        rows += [{"prompt": text, "answer": "A", "system": text} for text in self._texts[:5]]
        file = BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
        receive(self._engine, self._settings, {"train": Sent(f"a{self._part(2, 90)}.jsonl", file)}, owner=self._part(3, 60))

    def _preflights(self, config: dict[str, Any]) -> Iterator[JobRow]:
        """One whose examples bear all of the texts, and one that failed."""
        request = {"config": config | {"name": self._part(2, 200)}, "size": PreflightSize().model_dump()}
        examples = [_example(text[:4_000]) for text in self._texts]
        yield JobRow(kind="preflight", owner=self._part(3, 64), state="completed", request=request, result=_found(examples), ended_at=now())
        failed = JobRow(kind="preflight", owner=self._part(4, 64), state="failed", request=request, ended_at=now())
        failed.error_kind, failed.error_message, failed.error_advice = "model", self._part(4, 2_000), self._part(5, 2_000)
        yield failed

    def _run_with(self, exchanges: Iterator[ExchangeRecorded]) -> int:
        claim = start_run(self._engine, Story(rounds=1, steps=2))
        with writing(self._engine) as session:
            ingest(session, claim.run_id, claim.token, list(exchanges))
        return claim.run_id

    def _one_each(self) -> Iterator[ExchangeRecorded]:
        return (_said(seq, (text[:5_000],) * SLOTS) for seq, text in enumerate(self._texts, start=1))

    def _many_each(self) -> Iterator[ExchangeRecorded]:
        places = range(0, len(self._texts), SLOTS)
        return (_said(seq, [self._part(place + slot, 200_000) for slot in range(SLOTS)]) for seq, place in enumerate(places, start=1))

    def _named_runs(self, like: int) -> tuple[int, ...]:
        """Runs, every text a name, an owner, a tag, an error, and a text of the configuration."""
        rows = []
        with writing(self._engine) as session:
            config = session.get_one(ExperimentRow, session.get_one(RunRow, like).experiment_id).config
            for number in range(len(self._texts)):
                data = config | {"name": self._part(number, 200)}
                sources = {"system_prompt": self._part(number, 20_000), "train": self._part(number, 1_000)}
                data["domains"] = [domain | sources for domain in data["domains"]]
                data["students"] = [student | {"model": self._part(number, 500)} for student in data["students"]]
                experiment = ExperimentRow(name=self._part(number, 200), config=data)
                session.add(experiment)
                session.flush()
                row = RunRow(experiment_id=experiment.id or 0, name=self._part(number, 200), folder=f"named-{number}", status="queued")
                row.owner, row.tags = self._part(number + 1, 64), [self._part(number + 2, 50)]
                row.queued_at, row.turn, row.rounds, row.steps_total, row.size_bytes = now(), float(number), 1, 4, 1_000_000 + number
                if number % 2:
                    row.status, row.error_kind = "failed", "data"
                    row.error_message, row.error_advice = self._part(number + 3, 2_000), self._part(number + 4, 2_000)
                session.add(row)
                rows.append(row)
            session.flush()
            return tuple(row.id or 0 for row in rows)

    def _rows(self, archive: int, named: Sequence[int], sweep: int) -> Iterator[SQLModel]:
        moment, soon, me = now(), now() + timedelta(days=1), self._person.id or 0
        axis = self._part(5, 60)
        for number, text in enumerate(self._texts):
            name, run = f"{number} {text[:80]}", named[number]
            yield TransitionRow(run_id=archive, from_status="running", to_status="completed", cause=text[:2_000], actor=text[:64])
            yield TransitionRow(run_id=run, to_status="queued", cause=text[:2_000], actor=text[:64])
            yield NoticeRow(run_id=archive, kind="checkpoint", message=text[:2_000])
            yield WorkerRow(
                name=name, host=text[:100], pid=1, device=text[:60], labels=[text[:40]], started_at=moment, seen_at=moment, run_id=run
            )
            yield TokenRow(person_id=me, name=text[:100], prefix="opcod_abc", token_hash=f"{number}", scope="read", expires_at=soon)
            yield SessionRow(person_id=me, token_hash=f"{number}", expires_at=soon, address=text[:64], agent=text[:200])
            yield PersonRow(name=name, name_key=f"{number}", role="viewer", password_hash="")
            yield AuditRow(who=text[:64], means=text[:40], action=text[:120], object=text[:200], address=text[:64], outcome=text[:100])
            yield SweepRow(name=text[:200], owner=text[:64], axes=[])
            values = {"method.gate.threshold": text[:200], axis: [text[:50]]}
            yield SweepPointRow(sweep_id=sweep, place=number, values=values, experiment_id=1, run_id=run)
            hook = number // HOOKED + 1
            if number % HOOKED == 0:
                yield WebhookRow(id=hook, owner=self._person.name, url=text[:2_000], events=["run.failed"], sealed_secret="")
            yield DeliveryRow(id=number + 1, webhook_id=hook, event="run.failed", body={}, tries=1, next_try_at=None)
            yield DeliveryTryRow(delivery_id=number + 1, status=500, seconds=0.1, answer=text[:500])
            yield StudentRow(name=f"brought-{number}", model=text[:500], native_domain=text[:64], owner=text[:64])
        for first in range(0, len(self._texts), SAMPLES):
            yield self._chat(first)

    def _chat(self, first: int) -> JobRow:
        """Asked and answered in the texts from `first` on."""
        texts = self._texts[first : first + SAMPLES]
        said = [{"text": text[:20_000], "tokens": 1, "truncated": True, "correct": False, "extracted": text[:1_000]} for text in texts]
        request = {
            "students": [{"student_id": 1, "name": "s", "model": texts[0][:500]}], "question": texts[0][:20_000], "system": texts[0][:500],
            "domain": "densities", "question_id": texts[0][:500], "answer": texts[0][:1_000], "temperature": 1.0, "top_p": 1.0,
            "max_tokens": 1, "samples": len(said), "seed": 0,
        }  # fmt: skip
        result = {"answers": [{"samples": said, "prompt_tokens": 1, "seconds": 1.0}]}
        return JobRow(kind="chat", owner=texts[0][:64], state="completed", request=request, result=result)

    def _specialist(self) -> JobRow:
        """A fine-tuning that failed, with all texts in its log."""
        domain = {"name": "d", **dict.fromkeys(("train", "validation", "test"), "demo:densities:train")}
        request = {"name": "s", "config": {"model": self._part(0, 500) or "m", "domains": [domain]}}
        log = [{"at": now().isoformat(), "text": text[:500]} for text in self._texts]
        result = {"phase": self._part(3, 200), "log": log}
        row = JobRow(kind="specialist", owner=self._part(4, 64), worker=self._part(5, 60), state="failed", request=request, result=result)
        row.error_kind, row.error_message, row.error_advice = "data", self._part(1, 2_000), self._part(2, 2_000)
        return row


def _example(text: str) -> Example:
    said = {name: text for name in ("question", "answer", "rollout", "feedback", "concept", "again")}
    return Example(turn="rescued", domain="densities", correct=False, correct_again=True, outcome="kept", **said)


def _found(examples: list[Example]) -> dict[str, Any]:
    """What a pre-flight of `Story`'s students might find."""
    names, domains, text = ("student1", "student2"), ("densities", "protons"), examples[0].question
    shared: dict[str, Any] = {"questions": 8, "rollouts": 32, "mixed": 0.5, "truncated": 0.03, "answered": 0.97, "prompt_tokens": 30.0}
    students = [
        StudentFindings(
            tutee=tutee,
            tutor=tutor,
            gate_open=tutee == "student1",
            accuracy=0.6,
            response_tokens=24.0,
            feedback_tokens=20.0,
            outcomes={"kept": 24, "no_match": 8},
            break_rescue=[BreakRescue(1, tutee, tutor, None, 14, 2, 10, 6)],
            self_teacher=SelfTeacherGap(taught=0.9, student=0.6, teacher=0.8, divergence=0.02, responses=28),
            examples=examples if tutee == "student1" else [],
            **shared,
        )
        for tutee, tutor in zip(names, reversed(names), strict=True)
    ]
    decisions = [
        GateDecision(1, "student1", "cognizance", 0.1, 0.2, True, domains),
        GateDecision(1, "student2", "cognizance", 0.3, 0.2, False, ()),
    ]
    return Preflight(
        size=PreflightSize(),
        evaluations=[Evaluation(0, name, domain, "validation", 0.7, 0.6, 0.8, 16, 4, 0.1) for name in names for domain in domains],
        decisions=decisions,
        students=students,
        findings=[*judge(decisions, students, tutored=True), Finding(weight="stop", about=text, message=text, advice=text)],
        notes=[text],
        seconds=30.0,
    ).model_dump(mode="json")


SAMPLES = 16
"""Answers of a chat."""
HOOKED = 5
"""Deliveries of a webhook that its page shows."""


def _said(seq: int, texts: Sequence[str]) -> ExchangeRecorded:
    """An exchange that has one of the texts in each of its places."""
    prompt, answer, response, extracted, solution, raw, teacher = texts
    feedback = Feedback(raw, raw, "kept", extracted, answer, (answer, raw))
    question, rollout = Question(prompt[:500], "densities", prompt, answer), Rollout(0, response, 3, True, extracted, False)
    exchange = Exchange(1, seq, 0, "student1", "student2", question, rollout, solution, feedback, teacher, True, 0.1, 0.2)
    return ExchangeRecorded.model_construct(kind="exchange_recorded", seq=seq, at=now(), exchange=exchange)


class Studio:
    """A studio full of texts, and a page on which its admin goes through it."""

    def __init__(self, home: Path, texts: Sequence[str]) -> None:
        self.site = Site(home, auth="password")
        person = add_person(self.site.engine, "ada", "admin")
        self.seeded: Seeded = Seeder(self.site.engine, self.site.app.state.store, self.site.settings, person, texts).seed()

    def cookie(self) -> Any:
        return {"name": f"opcod-session-{self.site.port}", "value": self.seeded.mark, "url": self.site.url}


def addresses(seeded: Seeded, asked: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(place, address) of every page; what is typed into addresses comes from `asked`."""
    yield "runs", "/"
    yield from (("runs", f"/?before={run}") for run in seeded.named_runs[::-48])
    yield from (("run", f"/runs/{run}") for run in (seeded.archive_run, seeded.list_run))
    yield from (
        ("exchanges", f"/runs/{seeded.list_run}/exchanges?text=raw&after={first}") for first in range(0, seeded.exchanges[0] - 1, PAGE)
    )
    yield from (("exchange", f"/exchanges/{exchange}?text=raw") for exchange in seeded.exchanges)
    yield "exchange", f"/exchanges/{seeded.exchanges[0]}?text=raw&full=1"
    yield from (("rendered", f"/exchanges/{exchange}") for exchange in seeded.exchanges)
    yield from ((path.strip("/"), path) for path in ("/queue", "/workers", "/storage", "/sweeps", "/docs/method", "/api/v1/docs"))
    yield from (("sweeps", f"/sweeps?before={sweep}") for sweep in range(len(seeded.named_runs), 1, -48))
    yield "sweep", f"/sweeps/{seeded.sweep}"
    yield "new sweep", "/sweeps/new"
    compared = ",".join(map(str, seeded.named_runs[:50]))
    yield from (("comparison", f"/compare?runs={compared}&by={by}") for by in ("configuration", "run"))
    yield "report", f"/runs/{seeded.list_run}/report?compare={','.join(map(str, seeded.named_runs[:20]))}"
    yield from ((path.strip("/"), path) for path in ("/domains", "/domains/1", "/uploads/1", "/students", "/chats"))
    yield from (("student", path) for path in ("/students/5", "/students/choices", "/specialists/new"))
    yield "specialist", f"/specialists/{seeded.specialist}"
    yield from (("preflight", f"/preflights/{job}") for job in seeded.preflights)
    yield "preflights", "/preflights"
    for tab in ("", "/tokens", "/webhooks", "/people", "/audit", "/studio"):
        yield f"settings{tab}", f"/settings{tab}"
    for text in asked:
        word = quote(text, safe="")
        yield "search", "/?" + urlencode(dict.fromkeys(("q", "tag", "owner", "status"), text))
        yield (
            "filter",
            f"/runs/{seeded.list_run}/exchanges?" + urlencode(dict.fromkeys(("tutee", "domain", "question", "q", "label"), text)),
        )
        yield "not found", f"/{word}"
        yield "new", f"/experiments/new?preset={word}"
        yield "audit of", "/settings/audit?" + urlencode({"who": text, "action": text})
    yield from (("named run", f"/runs/{run}") for run in seeded.named_runs[:: max(1, len(seeded.named_runs) // 12)])
    yield from (("copy", f"/experiments/new?from={run}") for run in seeded.named_runs[1 :: len(seeded.named_runs) // 4])
