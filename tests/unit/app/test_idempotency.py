"""The same key makes one thing: again, changed, by somebody else, and both at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from app.db import reading, writing
from app.errors import Invalid
from app.experiments import experiments
from app.idempotency import Asked, earlier, once
from app.tables import ExperimentRow
from opcod.config import ExperimentConfig
from tests.unit.app.factories import config


def make(engine: Engine, asked: Asked) -> tuple[int, bool]:
    with writing(engine) as session:
        return once(session, asked, lambda: experiments.create(session, ExperimentConfig.model_validate(config())))


def test_the_same_request_again_gets_the_first_one(engine: Engine) -> None:
    asked = Asked("ann", "k", "experiment", {"preset": "tiny"})
    with reading(engine) as session:
        assert earlier(session, asked) is None
    first, new = make(engine, asked)
    assert new
    assert make(engine, Asked("ann", "k", "experiment", {"preset": "tiny"})) == (first, False)
    with reading(engine) as session:
        assert earlier(session, asked) == first


@pytest.mark.parametrize(
    "other", [Asked("ann", "k", "experiment", {"preset": "demo"}), Asked("ann", "k", "run of experiment 1", {"preset": "tiny"})]
)
def test_the_same_key_for_something_else_is_told(engine: Engine, other: Asked) -> None:
    make(engine, Asked("ann", "k", "experiment", {"preset": "tiny"}))
    with pytest.raises(Invalid, match="already used"):
        make(engine, other)
    with reading(engine) as session:
        assert len(session.exec(select(ExperimentRow)).all()) == 1


def test_keys_are_each_persons_own_and_no_key_remembers_nothing(engine: Engine) -> None:
    made = [make(engine, Asked(person, key, "experiment"))[0] for person, key in (("ann", "k"), ("bob", "k"), ("ann", None), ("ann", None))]
    assert len(set(made)) == 4


def test_what_fails_leaves_the_key_free(engine: Engine) -> None:
    def fall() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), writing(engine) as session:
        once(session, Asked("ann", "k", "experiment"), fall)
    assert make(engine, Asked("ann", "k", "experiment"))[1]


def test_requests_that_come_together_make_one(engine: Engine) -> None:
    together = Barrier(6)

    def ask(_: int) -> tuple[int, bool]:
        together.wait()
        return make(engine, Asked("ann", "k", "experiment"))

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert len({made for made, _ in answers}) == 1
    assert [new for _, new in answers].count(True) == 1
