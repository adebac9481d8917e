"""A large database in minutes: runs that ended, with curves, and one run of very many exchanges. Rows are put in past all checks.

Texts are made of a vocabulary whose words are as unequal as those of a language: some stand in every exchange, some in a handful.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Engine, insert, update
from sqlmodel import SQLModel

from app.db import now, writing
from app.records.exchange_search import search_of
from app.tables import ExchangeRow, FeedbackRow, MetricRow, RunRow
from tests.browser.seeding import Story, seed_run

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
    """Fill the database; returns the run with the exchanges. The search index is filled, too."""
    ids = [seed_run(engine, Story(name=f"Run {number}", rounds=2, steps=2, seed=number)) for number in range(runs)]
    say(f"{runs} runs")
    for run_id in ids:
        _insert(engine, MetricRow, _points(run_id, points))
    say(f"{points} points each")
    big = ids[0]
    for part in _batched(_exchanges(big, exchanges)):
        with writing(engine) as session:
            session.execute(insert(ExchangeRow), [exchange for exchange, _ in part])
            session.execute(insert(FeedbackRow), [said for _, said in part if said])
    with writing(engine) as session:
        session.execute(update(RunRow).where(RunRow.id == big).values(rounds=ROUNDS, round=ROUNDS))  # type: ignore[arg-type]
    say(f"{exchanges} exchanges in run {big}")
    while search_of(engine).update():
        pass
    say("indexed")
    if engine.dialect.name == "postgresql":
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return big


def _insert(engine: Engine, table: type[SQLModel], rows: Iterator[dict[str, Any]]) -> None:
    for part in _batched(rows):
        with writing(engine) as session:
            session.execute(insert(table), part)


def _batched(rows: Iterator[T]) -> Iterator[list[T]]:
    while part := list(islice(rows, BATCH)):
        yield part


def _points(run_id: int, count: int) -> Iterator[dict[str, Any]]:
    chance, start = random.Random(run_id), now()
    for step in range(count):
        at = start + timedelta(seconds=step)
        value = 1 / (1 + 0.001 * step) + chance.uniform(-0.05, 0.05)
        name = f"student{step % 2 + 1}/train/loss"
        yield {"run_id": run_id, "seq": 10**9 + step, "name": name, "step": step, "round": 1 + step % ROUNDS, "value": value, "at": at}


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
