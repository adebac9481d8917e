from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from app.access import tries
from app.db import now, writing
from tests.unit.app.conftest import *  # noqa: F403 (both databases)

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.9"


def attempt(engine: Engine, name: str = "ada", address: str = HOME, *, known: bool = False) -> bool:
    with writing(engine) as session:
        return tries.count_try(session, name, address, known=known) is None


def test_many_at_once_get_no_further_than_many_in_a_row(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(lambda _: attempt(engine), range(3 * tries.PER_NAME)))
    assert passed.count(True) == tries.PER_NAME


def test_names_are_counted_apart_and_an_address_over_all_of_them(engine: Engine) -> None:
    passed = [attempt(engine, name=f"name{number}") for number in range(tries.PER_ADDRESS + 1)]
    assert passed == [True] * tries.PER_ADDRESS + [False]
    assert attempt(engine, name="name0", address=ELSEWHERE)


def test_a_subnet_of_ipv6_counts_as_one(engine: Engine) -> None:
    passed = [attempt(engine, name=f"name{number}", address=f"2001:db8:1:2::{number:x}") for number in range(tries.PER_ADDRESS + 1)]
    assert passed[-1] is False
    assert attempt(engine, name="other", address="2001:db8:1:3::1")


def test_the_right_password_forgives_the_name_and_time_forgives_all(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(tries.PER_NAME):
        attempt(engine)
    with writing(engine) as session:
        tries.forgive(session, " ADA ", HOME)
    assert attempt(engine)
    for _ in range(tries.PER_NAME):
        attempt(engine)
    assert not attempt(engine)
    later = now() + tries.WINDOW + timedelta(seconds=1)
    monkeypatch.setattr(tries, "now", lambda: later)
    assert attempt(engine)


def test_who_guesses_elsewhere_does_not_shut_a_person_out_at_home(engine: Engine) -> None:
    while attempt(engine, address=ELSEWHERE):
        pass
    assert not attempt(engine, address="203.0.113.7")
    assert [attempt(engine, known=True) for _ in range(tries.PER_NAME + 1)] == [True] * tries.PER_NAME + [False]
    with writing(engine) as session:
        tries.forgive(session, "ada", HOME, known=True)
    assert attempt(engine, known=True)
    assert not attempt(engine, address=ELSEWHERE)
