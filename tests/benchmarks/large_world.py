"""A large database in minutes: runs that ended, with curves, and one run of very many exchanges. Rows are put in past all checks.

Texts are made of a vocabulary whose words are as unequal as those of a language: some stand in every exchange, some in a handful.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Engine, insert, update
from sqlmodel import SQLModel, col, select

from app.db import now, writing
from app.experiments import sweeps
from app.experiments.sweep_points import SweepPlan
from app.experiments.sweep_points import points as points_of
from app.idempotency import Asked
from app.lifecycle import workers
from app.records.digests import digest_next
from app.records.exchange_search import search_of
from app.tables import CommentRow, ExchangeLabelRow, ExchangeRow, FeedbackRow, MetricRow, RunRow, StepRow, StepTallyRow, ViewRow
from app.webhooks.tables import DeliveryRow, DeliveryTryRow, WebhookRow
from tests.browser.seeding import Story, events, feed, seed_run, start_run

T = TypeVar("T")
BATCH = 5_000
QUESTIONS, ROLLOUTS = 16, 8
"""Of a step."""
POOL = 4_000
"""Distinct texts of a kind."""
KNOWN_QUESTIONS = 5_000
ROUNDS = 40
OUTCOMES = ("kept",) * 12 + ("no_match", "no_match", "no_concept_tag", "empty", "all_generic", "fb_none", None, None)
RARE = ("zirconium", "hafnium", "osmium")
"""Words that 1 in 100, 1 in 10,000 and 1 in 100,000 exchanges have in the rollout."""
_COMMON = """the density of an alloy is denser than iron and lead because mass per volume of the sample rises with every
proton""".split()  # noqa: SIM905


class Texts:
    """Texts of some hundred words."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        letters = "bcdfghklmnprstvw"
        vowels = "aeiou"
        self._words = _COMMON + [
            "".join(self._random.choice(letters) + self._random.choice(vowels) for _ in range(self._random.randint(2, 4)))
            for _ in range(20_000)
        ]
        self._weights = [1 / (rank + 3) for rank in range(len(self._words))]

    def pool(self, words: int, count: int = POOL) -> list[str]:
        """Some texts of about so many words."""
        drawn = self._random.choices(self._words, self._weights, k=words * count)
        return [" ".join(drawn[start : start + words]) for start in range(0, words * count, words)]


def make_large(engine: Engine, *, exchanges: int, runs: int, points: int, say: Any = print) -> int:
    """Fill the database; returns the run with the exchanges. The search index is filled, too. `points`: of each of a run's two curves.

    Of events those of the runs' beginnings are there alone, of steps besides them the last ones: pages read no others.
    """
    algorithms = ("opcod", "sdpo", "grpo", "opcod")
    stories = [
        Story(name=f"Run {number}", algorithm=algorithms[number % 4], rounds=ROUNDS if number == 0 else 10, steps=2, seed=number)
        for number in range(runs)
    ]
    ids = [seed_run(engine, story) for story in stories]
    say(f"{runs} runs")
    for run_id in ids:
        _insert(engine, MetricRow, _points(run_id, points))
        _insert(engine, StepRow, _steps(run_id, points))
        with writing(engine) as session:
            done = {f"student{number}": points for number in (1, 2)}
            session.execute(update(RunRow).where(col(RunRow.id) == run_id).values(steps_done=done, steps_total=2 * points))
    say(f"{points} points a curve")
    big = ids[0]
    for part in _batched(_exchanges(big, exchanges)):
        with writing(engine) as session:
            session.execute(insert(ExchangeRow), [exchange for exchange, _ in part])
            session.execute(insert(FeedbackRow), [said for _, said in part if said])
    _insert(engine, StepTallyRow, _tallies(big, exchanges))
    say(f"{exchanges} exchanges in run {big}")
    _around(engine, big)
    while search_of(engine).update():
        pass
    while digest_next(engine):
        pass
    say("indexed")
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "PRAGMA optimize")
    return big


def _around(engine: Engine, big: int) -> None:
    """What else a studio of that size has: a queue, workers, runs under way, sweeps, webhooks, labels, comments and views."""
    moment = now()
    chance = random.Random(2)
    for number in range(4):
        story = Story(name=f"Under way {number}", seed=number)
        feed(engine, start_run(engine, story), list(events(story))[:100])
    for number in range(10):
        with writing(engine) as session:
            workers.heartbeat(session, f"gpu{number}:1", host=f"gpu{number}", pid=1, device="NVIDIA H100")
    logging.getLogger("app.lifecycle").setLevel(logging.ERROR)  # of every run that no broker is told of it
    for number in range(20):
        plan = SweepPlan(f"Sweep {number}", "tiny", None, {"method.gate.threshold": [0.1, 0.2], "seed": [1, 2, 3]})
        sweeps.start(engine, "", plan, points_of(plan), owner="local", asked=Asked("local", None, "sweep", plan.name))
    with writing(engine) as session:
        keys = session.exec(select(col(ExchangeRow.id)).where(col(ExchangeRow.run_id) == big).limit(10_000)).all()
        for label in ("starred", "check", "odd", "good example"):
            marked = chance.sample(keys, min(500, len(keys)))
            session.execute(
                insert(ExchangeLabelRow),
                [{"exchange_id": key, "run_id": big, "label": label, "person": "local", "at": moment} for key in marked],
            )
        for key in chance.sample(keys, min(200, len(keys))):
            session.add(CommentRow(exchange_id=key or 0, person="local", text="Look at this one.", at=moment))
        for number in range(20):
            session.add(ViewRow(owner="local", name=f"View {number}", query=f"round={number}&correct=false", created_at=moment))
        for _ in range(30):
            hook = WebhookRow(
                owner="local", url="https://example.org/hook", events=["run.completed"], sealed_secret="none", created_at=moment
            )
            session.add(hook)
            session.flush()
            for _ in range(20):
                told = DeliveryRow(webhook_id=hook.id or 0, event="run.completed", body={}, tries=1, next_try_at=None, delivered_at=moment)
                session.add(told)
                session.flush()
                session.add(DeliveryTryRow(delivery_id=told.id or 0, at=moment, status=200, seconds=0.1, answer="ok"))


def _insert(engine: Engine, table: type[SQLModel], rows: Iterator[dict[str, Any]]) -> None:
    for part in _batched(rows):
        with writing(engine) as session:
            session.execute(insert(table), part)


def _batched(rows: Iterator[T]) -> Iterator[list[T]]:
    while part := list(islice(rows, BATCH)):
        yield part


def _points(run_id: int, count: int) -> Iterator[dict[str, Any]]:
    chance, start = random.Random(run_id), now()
    for step in range(1, count + 1):
        for student in (1, 2):
            value = 1 / (1 + 0.001 * step) + chance.uniform(-0.05, 0.05)
            point = {"run_id": run_id, "seq": 10**9 + step, "name": f"student{student}/train/loss", "step": step}
            yield point | {"round": 1 + step * 10 // (count + 1), "value": value, "at": start + timedelta(seconds=step)}


def _steps(run_id: int, count: int) -> Iterator[dict[str, Any]]:
    """The last ones."""
    start = now()
    for step in range(max(1, count - 50), count + 1):
        for student in (1, 2):
            key = {"run_id": run_id, "student": f"student{student}", "step": step, "seq": 10**9 + step}
            yield key | {"round": 1 + step * 10 // (count + 1), "attempt_id": 1, "at": start + timedelta(seconds=step)}


def _tallies(run_id: int, exchanges: int) -> Iterator[dict[str, Any]]:
    """The steps' counts, as they are kept when exchanges arrive, behind those of the run's beginning."""
    chance, start = random.Random(3), now()
    size = QUESTIONS * ROLLOUTS
    steps = -(-exchanges // size)
    for place in range(steps):
        if place // 2 < 2 * ROUNDS:  # these have theirs
            continue
        lengths = Counter(str(chance.randint(20, 36)) for _ in range(size))
        kept, no_match, empty = 77, 13, 7
        yield {
            "run_id": run_id, "student": f"student{place % 2 + 1}", "step": place // 2 + 1, "round": 1 + place * ROUNDS // steps,
            "rollouts": size, "correct": chance.randint(60, 95), "truncated": 3, "tokens": 120 * size, "kept": kept, "no_match": no_match,
            "empty": empty, "no_concept_tag": 7, "all_generic": 7, "fb_none": 7, "at": start + timedelta(seconds=place),
            "histograms": {"response_tokens": dict(lengths), "divergence": dict(lengths), "feedback_characters": dict(lengths)},
        }  # fmt: skip


def _exchanges(run_id: int, count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    chance, texts = random.Random(1), Texts(1)
    questions, rollouts, feedbacks = texts.pool(35, KNOWN_QUESTIONS), texts.pool(90), texts.pool(50)
    steps = -(-count // (QUESTIONS * ROLLOUTS))
    for place in range(count):
        step, rest = divmod(place, QUESTIONS * ROLLOUTS)
        group, index = divmod(rest, ROLLOUTS)
        number = (step * QUESTIONS + group) * 7 % KNOWN_QUESTIONS
        right, outcome = chance.random() < 0.6, chance.choice(OUTCOMES)
        tutee = f"student{step % 2 + 1}"
        again = chance.random() < 0.1 if outcome == "kept" else None
        rollout = f"{chance.choice(rollouts)} <answer> {11 if right else 5} </answer>"
        rollout += "".join(f" {word}" for word, every in zip(RARE, (100, 10_000, 100_000), strict=True) if place % every == 7)
        said = f"<concept>{_COMMON[number % len(_COMMON)]}</concept> {chance.choice(feedbacks)}"
        solution = chance.choice(rollouts) if right else None
        key = {"run_id": run_id, "seq": 10**9 + place}
        exchange = key | {
            "round": 1 + step * ROUNDS // steps,
            "step": step // 2 + 1,
            "group": group,
            "tutee": tutee,
            "tutor": f"student{2 - step % 2}" if outcome else None,
            "domain": ("densities", "protons")[number % 2],
            "question_id": f"q{number}",
            "question_prompt": questions[number],
            "question_answer": "11",
            "rollout_index": index,
            "rollout_text": rollout,
            "rollout_tokens": 120,
            "correct": right,
            "extracted": "11" if right else "5",
            "truncated": False,
            "own_solution": solution,
            "teacher_prompt": f"{questions[number]}\n\n{solution or ''}\n\n{said}" if solution or outcome == "kept" else None,
            "in_loss": solution is not None or outcome == "kept",
            "divergence_mean": 0.01,
            "divergence_max": 0.3,
            "outcome": outcome,
            "again_text": rollout if again else None,
            "again_correct": not right if again else None,
            "again_extracted": None,
            "effect": None if not again else "break" if right else "rescue",
        }
        feedback: dict[str, Any] = {"raw": said, "text": said, "outcome": outcome, "concept": None, "matched_word": None, "removed": []}
        yield exchange, key | feedback if outcome else None
