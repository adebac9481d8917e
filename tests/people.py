"""People for tests: made directly in the database, signed in through the door."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine
from starlette.routing import BaseRoute

from app.access import people, tokens
from app.access.passwords import hash_password
from app.access.person import Person, Role, Scope
from app.db import writing

PASSWORD = "correct horse battery"


@cache
def password_hash() -> str:
    """Made once: it takes a tenth of a second."""
    return hash_password(PASSWORD)


def add_person(engine: Engine, name: str, role: Role) -> Person:
    with writing(engine) as session:
        row = people.add(session, name, role, password_hash())
        return Person(row.name, role, means="session 0", id=row.id)


def make_token(engine: Engine, person: Person, scope: Scope) -> str:
    with writing(engine) as session:
        return tokens.make(session, person, f"{scope} for tests", scope, None)[1]


def csrf_in(page: Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found, page.text[:2000]
    return found[1]


def sign_in(client: TestClient, name: str, password: str = PASSWORD, **more: str) -> Response:
    """Through the form, as a browser does."""
    csrf = csrf_in(client.get("/login", headers={"accept": "text/html"}))
    form = {"name": name, "password": password, "csrf": csrf, **more}
    return client.post("/login", data=form, follow_redirects=False)


def signed_in(app: FastAPI, name: str, **options: str) -> TestClient:
    """A browser in which `name` is signed in. It sends the token of its pages along, as htmx does."""
    client = TestClient(app, raise_server_exceptions=False, **options)  # type: ignore[arg-type]
    answer = sign_in(client, name)
    assert answer.status_code == 303, answer.text
    client.headers["x-csrf-token"] = csrf_in(client.get("/settings"))
    return client


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path with its parameters unfilled) of every route that the application has, pages too."""

    def walk(routes: list[BaseRoute], prefix: str) -> Iterator[tuple[str, str]]:
        for route in routes:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                context = route.include_context  # type: ignore[attr-defined]
                yield from walk(inner.routes, prefix + context.prefix)
            elif isinstance(route, APIRoute):
                yield from ((method, prefix + route.path) for method in route.methods or ())
            elif hasattr(route, "methods"):
                yield from ((method, prefix + route.path) for method in route.methods or ())  # type: ignore[attr-defined]

    yield from walk(app.routes, "")
