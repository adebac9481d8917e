"""What the load benchmark's readers read: a server of its own on SQLite or PostgreSQL, a broker, and writers that hold real attempts."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import Engine, func
from sqlmodel import col, select

from app import live
from app.db import make_engine, migrate, reading, writing
from app.lifecycle import runs, workers
from app.lifecycle.runs import Claim
from app.records.ingest import ingest
from app.tables import EventRow
from opcod.events import EvaluationFinished, Event, ExchangeRecorded, GateDecided, PhaseStarted, RoundStarted, RunStarted, StepFinished
from opcod.types import Evaluation, Exchange, Feedback, GateDecision, Question, Rollout
from tests.integration.service import broker
from tests.stores import postgres_server
from tests.unit.app.factories import claimed, config, queued_run, story

STUDENTS, DOMAINS = ("s1", "s2"), ("facts",)
BATCHES_A_SECOND = 5
"""As a worker's sink gathers events for 0.2 s."""
GROUPS, ROLLOUTS = 16, 8
"""Questions a step, and rollouts a question."""
METRICS = 44
"""Curves a student."""


@dataclass(frozen=True)
class Commit:
    """A batch of events that readers can see from `at` on (seconds since the epoch)."""

    run_id: int
    seq: int
    """Of its last event."""
    arrival: int
    """The last event's arrival number."""
    at: float


class Story:
    """One run's events, without end: steps of `GROUPS` x `ROLLOUTS` exchanges of about 4 KB, an evaluation every 20 steps."""

    def __init__(self, seed: int, length: int = 700) -> None:
        self._random = random.Random(seed)
        words = ["the", "density", "of", "an", "alloy", "is", "three", "more", "than", "that", "<b>", "iron", "α", "½", "&", "answer"]
        self._text = [" ".join(self._random.choices(words, k=length // 5)) for _ in range(64)]
        self._seq, self._exchanges, self._steps = 10, 0, 0

    def opening(self) -> list[Event]:
        """What a run says first."""
        names = list(STUDENTS)
        return [
            RunStarted(seq=1, students=names, domains=list(DOMAINS), rounds=500, steps_per_round=20, questions={}, parameters={}),
            RoundStarted(seq=2, round=1),
            *(self._evaluation(3 + index, 0, name) for index, name in enumerate(STUDENTS)),
            GateDecided(seq=5, decision=GateDecision(1, "s2", "cognizance", 0.1, 0.2, True, DOMAINS)),
            PhaseStarted(seq=6, round=1, tutee="s1", tutors=["s2"]),
        ]

    def batch(self, exchanges: int) -> list[Event]:
        """The next ones, with the step that they complete."""
        events: list[Event] = []
        for _ in range(exchanges):
            events.append(self._exchange())
            self._exchanges += 1
            if self._exchanges % (GROUPS * ROLLOUTS) == 0:
                self._steps += 1
                values = {f"s1/part{index % 6}/measure{index}": self._random.random() for index in range(METRICS)}
                values |= {"s1/train/loss": self._random.random(), "s1/train/accuracy": self._random.random()}
                events.append(StepFinished(seq=self._next(), round=1 + self._steps // 20, tutee="s1", step=self._steps, metrics=values))
                if self._steps % 20 == 0:
                    events.append(self._evaluation(self._next(), self._steps // 20, "s1"))
        return events

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _evaluation(self, seq: int, round: int, student: str) -> EvaluationFinished:
        score = self._random.random()
        return EvaluationFinished(
            seq=seq, evaluation=Evaluation(round, student, "facts", "validation", score, score - 0.1, score + 0.1, 50, 8, 0.3)
        )

    def _exchange(self) -> ExchangeRecorded:
        group, index = divmod(self._exchanges % (GROUPS * ROLLOUTS), ROLLOUTS)
        right = self._random.random() < 0.4
        said = self._random.choice(self._text)
        feedback = Feedback(f"<concept>alloy</concept> {said}", said, "kept" if index % 3 else "no_match", "alloy", "alloy", ("(B)",))
        text = self._random.choice(self._text)
        return ExchangeRecorded(
            seq=self._next(),
            exchange=Exchange(
                round=1 + self._steps // 20,
                step=self._steps + 1,
                group=group,
                tutee="s1",
                tutor="s2",
                question=Question(f"q{group}", "facts", f"How dense is alloy {group}? {text[:200]}", "3"),
                rollout=Rollout(index, text, 150, right, "3", False),
                own_solution=None,
                feedback=feedback,
                teacher_prompt=text + said,
                in_loss=True,
                divergence_mean=0.25,
                divergence_max=0.5,
            ),
        )


def seed_past(engine: Engine, count: int) -> None:
    """Runs that have ended, for the list."""
    for _ in range(count):
        claim = claimed(engine, queued_run(engine))
        with writing(engine) as session:
            ingest(session, claim.run_id, claim.token, story())
            runs.finish(session, claim, "completed")


def begin(engine: Engine, writer: int, history: int) -> tuple[Claim, Story]:
    """A run under way with `history` exchanges so far."""
    claim = claimed(engine, queued_run(engine), worker=f"writer{writer}", lease_seconds=60.0)
    tale = Story(seed=writer)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        ingest(session, claim.run_id, claim.token, tale.opening())
    for _ in range(history // 200):
        with writing(engine) as session:
            ingest(session, claim.run_id, claim.token, tale.batch(200))
    return claim, tale


def write(url: str, broker_url: str, writer: int, history: int, rate: float, begun: Any, told: Any, stop: Flag) -> None:
    """One worker's writing, in a process of its own: batches at an even pace, each followed by the bell; a heartbeat a second."""
    told.cancel_join_thread()  # what nobody reads any more must not keep this process
    engine = make_engine(url)
    claim, tale = begin(engine, writer, history)
    begun.put(claim.run_id)
    each = round(rate / BATCHES_A_SECOND)
    next_batch = time.monotonic() + writer / 20
    heartbeat = 0.0
    while not stop.is_set():
        stop.wait(max(0.0, next_batch - time.monotonic()))
        next_batch += 1 / BATCHES_A_SECOND
        batch = tale.batch(each)
        with writing(engine) as session:
            ingest(session, claim.run_id, claim.token, batch)
        at = time.time()
        live.ring(broker_url, claim.run_id)
        with reading(engine) as session:
            arrival = session.exec(select(func.max(col(EventRow.id))).where(col(EventRow.run_id) == claim.run_id)).one()
        told.put(Commit(claim.run_id, batch[-1].seq, arrival or 0, at))
        if time.monotonic() - heartbeat > 1:
            heartbeat = time.monotonic()
            with writing(engine) as session:
                runs.renew(session, claim)
                workers.heartbeat(session, f"writer{writer}", host="load", pid=os.getpid(), device="CPU", run_id=claim.run_id)
    engine.dispose()


@dataclass
class World:
    """A server to read from, and four runs that are written."""

    url: str
    run_ids: list[int]
    server: psutil.Process
    told: Any
    memory: list[int] = field(default_factory=list)
    """Resident bytes of the server's processes, sampled."""

    def sample(self) -> None:
        """Note the server's memory."""
        total = 0
        for process in (self.server, *self.server.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.memory.append(total)

    def cpu_seconds(self) -> float:
        """Processor time that the server's processes have used."""
        return sum(sum(process.cpu_times()[:2]) for process in (self.server, *self.server.children(recursive=True)))


@contextmanager
def world(database: str, *, processes: int, writers: int, rate: float, history: int, past: int) -> Iterator[World]:
    """Everything but the readers. `rate`: exchanges a second in all; `history`: exchanges that each run already has."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opcod-load-")))
        url = f"sqlite:///{home / 'opcod.db'}"
        if database == "postgresql":
            url = f"postgresql+psycopg://opcod@/postgres?host={stack.enter_context(postgres_server())}"
        broker_url = stack.enter_context(broker(home))
        engine = make_engine(url)
        migrate(engine)
        seed_past(engine, past)
        engine.dispose()
        environment = {"OPCOD_HOME": str(home), "OPCOD_DATABASE_URL": url, "OPCOD_BROKER_URL": broker_url}
        begun, told, stop = context.Queue(), context.Queue(), context.Event()
        hands = [
            context.Process(target=write, args=(url, broker_url, index, history, rate / writers, begun, told, stop), daemon=True)
            for index in range(writers)
        ]
        for hand in hands:
            hand.start()
        for hand in hands:
            stack.callback(hand.join, timeout=20)
        stack.callback(stop.set)
        run_ids = sorted(begun.get(timeout=300) for _ in hands)
        server = stack.enter_context(serving(environment, processes))
        yield World(server[0], run_ids, psutil.Process(server[1].pid), told)


@contextmanager
def serving(environment: dict[str, str], processes: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server, and where it listens, once it answers."""
    command = [sys.executable, "-m", "app.cli", "serve", "--port", "0", "--processes", str(processes)]
    server = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{address}/api/v1/health/live", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the server took too long to start"
                time.sleep(0.1)
        yield address, server
    finally:
        server.terminate()
        server.wait(timeout=30)


def open_files() -> None:
    """Let this process hold a connection for every reader."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))


__all__ = ["Commit", "World", "config", "open_files", "serving", "world"]
