"""People, sessions, tokens and links on both databases, at once from several sides."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app.access import audit, links, people, sessions, tokens, tries
from app.access.person import Person
from app.db import reading, writing
from app.errors import Invalid, NotFound, Refused
from app.settings import Settings
from tests.people import PASSWORD, add_person, make_token
from tests.unit.app.conftest import *  # noqa: F403 (both databases)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, auth="password")


def together(*calls: Any) -> list[Any]:
    """What each call gave or raised, made at once."""

    def one(call: Any) -> Any:
        try:
            return call()
        except (NotFound, Refused, Invalid) as error:
            return type(error)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_two_admins_who_demote_each_other_do_not_both_succeed(engine: Engine) -> None:
    for _ in range(5):
        for name in ("ada", "eve"):
            try:
                add_person(engine, name, "admin")
            except Invalid:
                with writing(engine) as session:
                    people.change(session, name, role="admin")

        def demote(name: str) -> str:
            with writing(engine) as session:
                return people.change(session, name, role="member").role

        found = together(lambda: demote("ada"), lambda: demote("eve"))
        assert sorted(map(str, found)) == sorted(["member", str(Refused)])
        with reading(engine) as session:
            assert people.has_admin(session)


def test_a_link_works_once_however_many_press_at_once(engine: Engine) -> None:
    with writing(engine) as session:
        mark = links.make(session, "invite", "admin", by="test")[1].removeprefix(links.PATH)

    def use(name: str) -> str:
        with writing(engine) as session:
            return links.use(session, mark, name, PASSWORD).name

    found = together(*[lambda name=name: use(name) for name in ("one", "two", "three")])
    assert sum(isinstance(result, str) for result in found) == 1
    with reading(engine) as session:
        assert len(people.listed(session)) == 1


def test_a_name_is_one_persons(engine: Engine) -> None:
    add_person(engine, "Ada", "admin")
    for name in ("ada", "ADA", " Ada "):
        with pytest.raises(Invalid), writing(engine) as session:
            people.add(session, name, "viewer", "x")
    for name in ("", "a b", "-a", "ä", "user", "Reaper", "a" * 65, "a\nb", "../a"):
        with pytest.raises(Invalid), writing(engine) as session:
            people.add(session, name, "viewer", "x")


def test_guesses_from_elsewhere_do_not_keep_a_person_out_where_she_has_come_in(engine: Engine, settings: Settings) -> None:
    add_person(engine, "ada", "admin")

    def sign_in(address: str, password: str = PASSWORD) -> str | tries.Wait | None:
        return sessions.sign_in(engine, settings, "Ada", password, address=address, agent="A browser")

    assert isinstance(sign_in("192.0.2.1"), str)
    for _ in range(tries.PER_NAME + 1):
        guessed = sign_in("198.51.100.9", "a guess")
    assert isinstance(guessed, tries.Wait)
    assert isinstance(sign_in("203.0.113.7"), tries.Wait)
    assert isinstance(sign_in("192.0.2.1"), str)


def test_a_session_and_a_token_say_who_one_is(engine: Engine, settings: Settings) -> None:
    ada = add_person(engine, "ada", "admin")
    mark = sessions.sign_in(engine, settings, "Ada", PASSWORD, address="192.0.2.1", agent="A browser\r\n")
    assert isinstance(mark, str)
    found = sessions.find(engine, settings, mark)
    assert found is not None
    assert (found.name, found.role, found.scope) == ("ada", "admin", "admin")
    assert sessions.find(engine, settings, mark + "x") is None
    text = make_token(engine, ada, "write")
    assert tokens.find(engine, text) == Person("ada", "admin", "write", "token 1", ada.id)
    with writing(engine) as session:
        people.change(session, "ada", role="admin")
        add = audit.record(session, "ada", found.means, "run.stop", "run 3", "192.0.2.1", None)
        audit.conclude(session, add, "run.stop", "run 3", "ok")
    with reading(engine) as session:
        newest = audit.entries(session, who="ada", action="run")[0]
        assert (newest.object, newest.outcome) == ("run 3", "ok")
        assert audit.entries(session, action="r%") == []
    with writing(engine) as session:
        sessions.end(session, mark)
    assert sessions.find(engine, settings, mark) is None
