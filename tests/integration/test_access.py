"""Nobody gets in who may not: every route, by every means, in both modes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update
from sqlmodel import col, select

from app.access import links, rules, tokens
from app.access.gate import safe_next
from app.access.marks import hashed
from app.access.person import Person, Role
from app.access.tables import AuditRow, LinkRow, PersonRow, SessionRow, TokenRow
from app.db import migrate, now, reading, writing
from app.guards.same_site import SAFE_METHODS
from app.main import create_app
from app.settings import Settings
from app.tables import RunRow, SweepRow
from app.webhooks.tables import WebhookRow
from tests.browser.seeding import Story, queue_run
from tests.integration.service import served
from tests.people import PASSWORD, add_person, csrf_in, make_token, routes_of, sign_in, signed_in

HTML = {"accept": "text/html"}
OPEN = {"/login", "/links/{mark}", "/api/v1/health", "/api/v1/health/live", "/api/v1/health/ready"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    app = create_app(Settings(home=tmp_path_factory.mktemp("home"), auth="password"))
    migrate(app.state.engine)
    yield app
    app.state.engine.dispose()


@pytest.fixture(scope="module")
def engine(app: FastAPI) -> Engine:
    engine: Engine = app.state.engine
    return engine


@pytest.fixture(scope="module")
def people(engine: Engine) -> dict[str, Person]:
    roles: dict[str, Role] = {"ada": "admin", "max": "member", "mia": "member", "vic": "viewer"}
    return {name: add_person(engine, name, role) for name, role in roles.items()}


@pytest.fixture(scope="module")
def browsers(app: FastAPI, people: dict[str, Person]) -> dict[str, TestClient]:
    return {name: signed_in(app, name) for name in people}


@pytest.fixture
def stranger(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def run_id(engine: Engine) -> int:
    """A run of max's."""
    run = queue_run(engine, Story())
    with writing(engine) as session:
        session.get_one(RunRow, run).owner = "max"
        session.add(SweepRow(name="of max", owner="max"))
    return run


def filled(path: str, run_id: int = 1) -> str:
    path = re.sub(r"\{run_id(:int)?\}", str(run_id), path)
    return re.sub(r"\{\w+(:\w+)?\}", "1", path)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# ---------- every route ----------


def test_the_walk_sees_every_route(app: FastAPI) -> None:
    assert {path for path in app.openapi()["paths"]} <= {path for _, path in routes_of(app)}


def test_no_route_answers_a_stranger(app: FastAPI, stranger: TestClient, people: dict[str, Person], run_id: int) -> None:
    for method, path in sorted(set(routes_of(app))):
        if path in OPEN:
            continue
        answer = stranger.request(method, filled(path, run_id), follow_redirects=False)
        assert answer.status_code == 401, (method, path)
        page = stranger.request(method, filled(path, run_id), headers=HTML, follow_redirects=False)
        if path.startswith("/api/"):
            assert page.status_code == 401, (method, path)
            assert page.headers["www-authenticate"].startswith("Bearer")
        else:
            assert (page.status_code, page.headers["location"].split("?")[0]) == (303, "/login"), (method, path)


def test_no_route_lets_a_viewer_or_a_reading_token_change_anything(
    app: FastAPI, engine: Engine, stranger: TestClient, people: dict[str, Person], browsers: dict[str, TestClient], run_id: int
) -> None:
    reading_admin = make_token(engine, people["ada"], "read")
    for method, path in sorted(set(routes_of(app))):
        if method in SAFE_METHODS or path in OPEN:
            continue
        place = filled(path, run_id)
        assert stranger.request(method, place, headers=bearer(reading_admin)).status_code == 403, (method, path)
        if rules.need_of(method, place) != "own":
            assert browsers["vic"].request(method, place).status_code == 403, (method, path)


def test_no_route_lets_a_member_change_what_is_somebody_elses(app: FastAPI, browsers: dict[str, TestClient], run_id: int) -> None:
    changing = [
        (method, path) for method, path in set(routes_of(app)) if method not in SAFE_METHODS and re.search(r"/\{(run|sweep)_id", path)
    ]
    assert len(changing) > 10
    for method, path in sorted(changing):
        if "clone" not in path:
            answer = browsers["mia"].request(method, filled(path, run_id))
            assert answer.status_code == 403, (method, path)
            assert ("belongs to max" if "move" not in path else "as a member") in answer.text


@pytest.mark.parametrize("spelling", ["{:010d}", "{:03d}", "{}.0", "+{}", " {}", "{}%20", "{}%0a"])
def test_no_other_spelling_of_its_number_opens_a_run(app: FastAPI, browsers: dict[str, TestClient], run_id: int, spelling: str) -> None:
    """Routes read more as a number than the gate does."""
    before = browsers["ada"].get(f"/api/v1/runs/{run_id}").json()
    place = spelling.format(run_id)
    for method, path in sorted(set(routes_of(app))):
        if method not in SAFE_METHODS and re.search(r"/\{run_id", path) and "clone" not in path:
            address = re.sub(r"\{run_id(:int)?\}", place, path)
            answer = browsers["mia"].request(method, address, json={"name": "mine now", "position": 1})
            assert answer.status_code in (403, 404), (method, address)
    assert browsers["ada"].get(f"/api/v1/runs/{run_id}").json() == before


def test_a_member_ranks_own_runs_down_and_never_up(engine: Engine, browsers: dict[str, TestClient]) -> None:
    mine = queue_run(engine, Story())
    with writing(engine) as session:
        session.get_one(RunRow, mine).owner = "mia"
    assert browsers["mia"].patch(f"/api/v1/runs/{mine}", json={"priority": -1}).json()["priority"] == -1
    assert browsers["mia"].patch(f"/api/v1/runs/{mine}", json={"priority": 1}).status_code == 403
    assert browsers["mia"].post(f"/api/v1/runs/{mine}:move", json={"position": 1}).status_code == 403
    assert browsers["ada"].patch(f"/api/v1/runs/{mine}", json={"priority": 1}).json()["priority"] == 1


def test_what_is_for_admins_is_for_admins_alone(
    app: FastAPI, engine: Engine, people: dict[str, Person], browsers: dict[str, TestClient]
) -> None:
    writing_admin = make_token(engine, people["ada"], "write")
    for method, path in sorted(set(routes_of(app))):
        if rules.need_of(method, path) == "admin":
            assert browsers["max"].request(method, filled(path)).status_code == 403, (method, path)
            assert TestClient(app).request(method, filled(path), headers=bearer(writing_admin)).status_code == 403, (method, path)
    assert browsers["ada"].get("/api/v1/people").status_code == 200


def test_streams_are_refused_too_and_readers_read(app: FastAPI, stranger: TestClient, browsers: dict[str, TestClient], run_id: int) -> None:
    for path in (f"/runs/{run_id}/live", "/runs/live", f"/api/v1/runs/{run_id}/events"):
        assert stranger.get(path, headers={"accept": "text/event-stream", "sec-fetch-dest": "empty"}).status_code == 401
    for path in ("/", f"/runs/{run_id}", "/api/v1/runs", "/metrics", "/api/v1/openapi.json"):
        assert browsers["vic"].get(path).status_code == 200, path


def test_the_owner_and_an_admin_may(browsers: dict[str, TestClient], run_id: int) -> None:
    assert browsers["max"].post(f"/api/v1/runs/{run_id}:stop").json()["status"] == "stopped"
    assert browsers["ada"].post(f"/api/v1/runs/{run_id}:resume").json()["status"] == "queued"
    history = browsers["vic"].get(f"/api/v1/runs/{run_id}/transitions").json()["items"]
    assert [step["actor"] for step in history][-2:] == ["max", "ada"]
    mine = browsers["mia"].post(f"/api/v1/runs/{run_id}:clone")
    assert (mine.status_code, mine.json()["owner"]) == (201, "mia")
    assert browsers["mia"].post(f"/api/v1/runs/{mine.json()['id']}:stop").status_code == 200


# ---------- signing in ----------


def test_wrong_words_and_unknown_names_are_refused_alike(app: FastAPI, people: dict[str, Person]) -> None:
    answers = [sign_in(TestClient(app), name, password) for name, password in (("ada", "not the password"), ("nobody-here", PASSWORD))]
    texts = [re.sub(r'value="[^"]*"|[0-9a-f]{64}', "", answer.text) for answer in answers]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert texts[0] == texts[1]
    assert "set-cookie" not in answers[0].headers


def test_cookies_are_for_us_alone(app: FastAPI, people: dict[str, Person]) -> None:
    plain = sign_in(TestClient(app), "vic").headers["set-cookie"]
    assert "opcod-session-80=" in plain
    assert "HttpOnly" in plain
    assert "samesite=lax" in plain.lower()
    secure = sign_in(TestClient(app, base_url="https://testserver"), "vic").headers["set-cookie"]
    assert secure.startswith("__Host-opcod-session=")
    assert "Secure" in secure
    assert "Path=/" in secure
    assert "Domain" not in secure


def test_behind_a_proxy_that_ends_tls_cookies_are_secure(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, auth="password", public_url="https://studio.example"))
    migrate(app.state.engine)
    add_person(app.state.engine, "ada", "admin")
    client = TestClient(app, base_url="http://studio.example")
    page = client.get("/login")
    assert page.headers["set-cookie"].startswith("__Host-opcod-visit=")
    assert page.headers["strict-transport-security"]
    visit = page.headers["set-cookie"].split(";")[0]
    form = {"name": "ada", "password": PASSWORD, "csrf": csrf_in(page)}
    answer = client.post("/login", data=form, headers={"cookie": visit, "origin": "https://studio.example"}, follow_redirects=False)
    assert answer.status_code == 303
    assert "__Host-opcod-session=" in answer.headers["set-cookie"]
    app.state.engine.dispose()


def test_a_session_is_new_at_each_login_and_ends_with_the_logout(app: FastAPI, engine: Engine, people: dict[str, Person]) -> None:
    client = TestClient(app)
    client.cookies.set("opcod-session-80", "planted-by-somebody-else")
    assert sign_in(client, "vic").status_code == 303
    first = client.cookies.get("opcod-session-80", domain="testserver.local")
    assert first
    assert first != "planted-by-somebody-else"
    client.cookies.clear(domain="")
    me = client.get("/api/v1/me").json()
    assert (me["name"], me["role"], me["signs_in"]) == ("vic", "viewer", True)
    out = client.post("/logout", data={"csrf": csrf_in(client.get("/settings"))}, follow_redirects=False)
    assert out.headers["location"] == "/login"
    assert client.get("/api/v1/me", headers={"cookie": f"opcod-session-80={first}"}).status_code == 401
    with reading(engine) as session:
        assert session.exec(select(SessionRow).where(col(SessionRow.token_hash) == hashed(first))).first() is None
        assert all(first not in str(row.model_dump()) for row in session.exec(select(SessionRow)).all())


def test_sessions_end_after_idleness_at_their_time_and_everywhere_at_once(app: FastAPI, engine: Engine) -> None:
    sid = add_person(engine, "sid", "member")

    def change(**values: Any) -> None:
        with writing(engine) as session:
            session.exec(update(SessionRow).where(col(SessionRow.person_id) == sid.id).values(**values))

    client = signed_in(app, "sid")
    change(seen_at=now() - timedelta(hours=73))
    assert client.get("/api/v1/me").status_code == 401
    client = signed_in(app, "sid")
    change(expires_at=now() - timedelta(seconds=1))
    assert client.get("/api/v1/me").status_code == 401
    here, there = signed_in(app, "sid"), signed_in(app, "sid")
    assert here.post("/settings/sessions/end").status_code == 200
    assert (here.get("/api/v1/me").status_code, there.get("/api/v1/me").status_code) == (200, 401)


def test_tries_are_counted_before_they_are_looked_at(tmp_path: Path) -> None:
    """Over two server processes together, which is what two applications on one database are."""
    settings = Settings(home=tmp_path, auth="password")
    apps = [create_app(settings) for _ in range(2)]
    migrate(apps[0].state.engine)
    add_person(apps[0].state.engine, "ada", "admin")
    statuses = [sign_in(TestClient(apps[number % 2]), "ada", f"wrong {number}").status_code for number in range(11)]
    assert statuses == [401] * 10 + [429]
    late = sign_in(TestClient(apps[0]), "ADA ")
    assert late.status_code == 429  # the right password, too late
    assert int(late.headers["retry-after"]) > 600
    with reading(apps[0].state.engine) as session:
        rows = session.exec(select(AuditRow).where(AuditRow.action == "login")).all()
        assert [row.outcome for row in rows].count("refused: too many tries") == 1
    for app in apps:
        app.state.engine.dispose()


# ---------- forms ----------


def test_forms_without_their_pages_token_are_refused(app: FastAPI, engine: Engine, people: dict[str, Person]) -> None:
    client = signed_in(app, "max")
    token = client.headers.pop("x-csrf-token")
    before = len(client.get("/api/v1/runs").json()["items"])
    assert client.post("/experiments", data={"tab": "preset", "preset": "tiny"}).status_code == 403
    assert client.post("/experiments", data={"tab": "preset", "preset": "tiny", "csrf": "0" * 64}).status_code == 403
    assert client.post("/api/v1/experiments", json={"preset": "tiny"}).status_code == 403  # the cookie alone does not do for JSON either
    assert len(client.get("/api/v1/runs").json()["items"]) == before
    made = client.post("/experiments", data={"tab": "preset", "preset": "tiny", "csrf": token}, follow_redirects=False)
    assert made.status_code == 303
    assert client.post("/api/v1/experiments", json={"preset": "tiny"}, headers={"x-csrf-token": token}).status_code == 201
    foreign = csrf_in(signed_in(app, "mia").get("/settings"))
    assert client.post("/logout", data={"csrf": foreign}).status_code == 403


def test_nobody_can_be_signed_in_by_another_sites_form(app: FastAPI, people: dict[str, Person]) -> None:
    client = TestClient(app)
    assert client.post("/login", data={"name": "vic", "password": PASSWORD}).status_code == 403
    client.get("/login", headers=HTML)
    assert client.post("/login", data={"name": "vic", "password": PASSWORD}).status_code == 403


def test_every_form_that_changes_something_carries_the_token() -> None:
    for path in (Path(__file__).parents[2] / "templates").rglob("*.html"):
        for form in re.findall(r"<form\b[^>]*method=\"post\"[^>]*>.{0,40}", path.read_text(encoding="utf-8"), re.S):
            assert "{{ viewer.csrf_field }}" in form, f"{path.name}: {form[:80]}"


def test_after_the_login_one_is_where_one_was_going(app: FastAPI, people: dict[str, Person]) -> None:
    client = TestClient(app)
    sent = client.get("/runs/3/exchanges?step=2", headers=HTML, follow_redirects=False).headers["location"]
    assert sent == "/login?next=/runs/3/exchanges%3Fstep%3D2"
    htmx = client.get("/runs/list", headers={"hx-request": "true", "hx-current-url": "http://testserver/?status=failed"})
    assert (htmx.status_code, htmx.headers["hx-redirect"]) == (401, "/login?next=/%3Fstatus%3Dfailed")
    assert sign_in(client, "vic", next="/runs/3/exchanges?step=2").headers["location"] == "/runs/3/exchanges?step=2"


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "evil.example", "javascript:alert(1)", "/\n/evil.example", "/login", ""],
)
def test_after_the_login_one_never_leaves(wanted: str) -> None:
    assert safe_next(wanted) == "/"


# ---------- links ----------


def test_the_first_admin_comes_by_a_link_that_works_once(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, auth="password"))
    engine = app.state.engine
    migrate(engine)

    def at_start() -> str | None:
        with writing(engine) as session:
            return links.make_for_first_admin(session)

    stale, path = at_start(), at_start()
    assert stale
    assert path
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get(stale).status_code == 404  # made anew at each start
    page = client.get(path)
    assert "first admin" in page.text
    assert page.headers["referrer-policy"] == "same-origin"  # nobody else learns the address, and forms still say where they come from
    assert page.headers["cache-control"] == "no-store"
    form = {"name": "ada", "password": PASSWORD, "csrf": csrf_in(page)}
    for bad in ({"password": "short"}, {"password": "aaaaaaaaaaaa"}, {"name": "../etc"}, {"name": "user"}, {"name": ""}):
        assert client.post(path, data=form | bad).status_code == 422, bad
    assert client.post(path, data=form, follow_redirects=False).status_code == 303
    assert client.get("/api/v1/me").json()["role"] == "admin"
    again = TestClient(app)
    assert again.get(path).status_code == 404
    again.get("/login", headers=HTML)
    assert again.post(path, data=form | {"csrf": csrf_in(again.get("/login"))}).status_code == 404
    assert at_start() is None
    with reading(engine) as session:
        mark = path.removeprefix(links.PATH)
        assert all(mark not in str(row.model_dump()) for row in session.exec(select(LinkRow)).all())
    engine.dispose()


def test_invitations_and_resets(app: FastAPI, engine: Engine, people: dict[str, Person], browsers: dict[str, TestClient]) -> None:
    ada = browsers["ada"]
    made = ada.post("/api/v1/people", json={"role": "viewer"})
    assert made.status_code == 201
    path = made.json()["url"].removeprefix("http://testserver")
    waiting = ada.get("/api/v1/invitations").json()["items"]
    assert [item["id"] for item in waiting] == [made.json()["id"]]
    assert "token" not in str(waiting)
    guest = TestClient(app)
    form = {"name": "Zoe", "password": PASSWORD, "csrf": csrf_in(guest.get(path))}
    taken = guest.post(path, data=form | {"name": "ADA"})
    assert taken.status_code == 422
    assert "taken" in taken.text
    assert guest.post(path, data=form, follow_redirects=False).status_code == 303
    assert guest.get("/api/v1/me").json()["role"] == "viewer"
    assert ada.get("/api/v1/invitations").json()["items"] == []

    reset = ada.post("/api/v1/people/zoe:reset").json()["url"].removeprefix("http://testserver")
    helped = TestClient(app)
    form = {"password": "another long password", "csrf": csrf_in(helped.get(reset))}
    assert helped.post(reset, data=form, follow_redirects=False).status_code == 303
    assert guest.get("/api/v1/me").status_code == 401  # signed out where they were
    assert sign_in(TestClient(app), "zoe").status_code == 401
    assert sign_in(TestClient(app), "zoe", "another long password").status_code == 303

    taken_back = ada.post("/api/v1/people", json={"role": "admin"}).json()
    assert ada.delete(f"/api/v1/invitations/{taken_back['id']}").status_code == 204
    assert TestClient(app).get(taken_back["url"]).status_code == 404
    late = ada.post("/api/v1/people", json={"role": "admin"}).json()
    with writing(engine) as session:
        session.exec(update(LinkRow).where(col(LinkRow.id) == late["id"]).values(expires_at=now()))
    assert TestClient(app).get(late["url"]).status_code == 404


# ---------- people ----------


def test_roles_and_bans_take_hold_at_once(app: FastAPI, engine: Engine, people: dict[str, Person], browsers: dict[str, TestClient]) -> None:
    ada = browsers["ada"]
    tom = add_person(engine, "tom", "member")
    browser, token = signed_in(app, "tom"), make_token(engine, tom, "write")
    program = TestClient(app, headers=bearer(token))
    assert program.post("/api/v1/experiments?dry_run=true", json={"preset": "tiny"}).status_code == 200
    assert ada.patch("/api/v1/people/tom", json={"role": "viewer"}).json()["role"] == "viewer"
    assert program.post("/api/v1/experiments?dry_run=true", json={"preset": "tiny"}).status_code == 403  # no further than the role
    with writing(engine) as session:
        session.add(WebhookRow(owner="tom", url="https://hooks.example/", events=["run.completed"], sealed_secret=""))
    assert ada.patch("/api/v1/people/tom", json={"disabled": True}).json()["disabled_at"]
    (hook,) = [item for item in ada.get("/api/v1/webhooks").json()["items"] if item["owner"] == "tom"]
    assert hook["disabled_why"] == "tom may no longer sign in."
    assert (browser.get("/api/v1/me").status_code, program.get("/api/v1/me").status_code) == (401, 401)
    assert sign_in(TestClient(app), "tom").status_code == 401
    assert ada.patch("/api/v1/people/tom", json={"disabled": False}).json()["disabled_at"] is None
    assert sign_in(TestClient(app), "tom").status_code == 303
    assert ada.patch("/api/v1/people/nobody-at-all", json={}).status_code == 404


def test_the_last_admin_stays(browsers: dict[str, TestClient]) -> None:
    for change in ({"role": "member"}, {"disabled": True}):
        answer = browsers["ada"].patch("/api/v1/people/ada", json=change)
        assert answer.status_code == 409
        assert "only admin" in answer.json()["detail"]
    assert browsers["ada"].get("/api/v1/me").json()["role"] == "admin"


def test_a_password_is_changed_by_who_knows_it(app: FastAPI, engine: Engine) -> None:
    add_person(engine, "pia", "viewer")
    here, there = signed_in(app, "pia"), signed_in(app, "pia")
    wrong = here.post("/settings/password", data={"old": "not it at all", "new": "another long password"})
    assert wrong.status_code == 422
    assert "not your password" in wrong.text
    assert here.post("/settings/password", data={"old": PASSWORD, "new": "short"}).status_code == 422
    assert here.post("/settings/password", data={"old": PASSWORD, "new": "another long password"}).status_code == 200
    assert (here.get("/api/v1/me").status_code, there.get("/api/v1/me").status_code) == (200, 401)
    with reading(engine) as session:
        assert session.exec(select(PersonRow.password_hash).where(PersonRow.name == "pia")).one().startswith("$argon2id$")


# ---------- tokens ----------


def test_a_token_is_shown_once_used_and_revoked(app: FastAPI, engine: Engine, browsers: dict[str, TestClient]) -> None:
    max_ = browsers["max"]
    made = max_.post("/api/v1/tokens", json={"name": "sweep", "scope": "write"})
    assert made.status_code == 201
    token = made.json()["token"]
    assert token.startswith(made.json()["prefix"])
    listed = max_.get("/api/v1/tokens").json()["items"][0]
    assert (listed["name"], listed["used_at"], "token" in listed) == ("sweep", None, False)
    program = TestClient(app, headers=bearer(token))
    me = program.get("/api/v1/me").json()
    assert (me["name"], me["scope"], me["means"]) == ("max", "write", f"token {listed['id']}")
    assert max_.get("/api/v1/tokens").json()["items"][0]["used_at"]
    assert program.post("/api/v1/experiments", json={"preset": "tiny"}).status_code == 201  # no form, no form's token
    assert program.post("/api/v1/tokens", json={"name": "child", "scope": "read"}).status_code == 403
    assert browsers["mia"].delete(f"/api/v1/tokens/{listed['id']}").status_code == 404
    assert max_.delete(f"/api/v1/tokens/{listed['id']}").status_code == 204
    assert program.get("/api/v1/me").status_code == 401
    with reading(engine) as session:
        assert token not in str([row.model_dump() for row in session.exec(select(TokenRow)).all()])


def test_a_scope_never_exceeds_the_role(browsers: dict[str, TestClient]) -> None:
    asked = [("vic", "read", 201), ("vic", "write", 403), ("max", "write", 201), ("max", "admin", 403), ("ada", "admin", 201)]
    for name, scope, status in asked:
        assert browsers[name].post("/api/v1/tokens", json={"name": "x", "scope": scope}).status_code == status, (name, scope)


def test_tokens_expire(app: FastAPI, engine: Engine, browsers: dict[str, TestClient]) -> None:
    past = (now() - timedelta(minutes=1)).isoformat()
    assert browsers["max"].post("/api/v1/tokens", json={"name": "late", "expires_at": past}).status_code == 422
    soon = (now() + timedelta(minutes=1)).isoformat()
    made = browsers["max"].post("/api/v1/tokens", json={"name": "soon", "expires_at": soon}).json()
    program = TestClient(app, headers=bearer(made["token"]))
    assert program.get("/api/v1/me").status_code == 200
    with writing(engine) as session:
        session.exec(update(TokenRow).where(col(TokenRow.id) == made["id"]).values(expires_at=now()))
    assert program.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Bearer x", "Bearer opcod_", "Bearer opcod_" + "a" * 43, "Basic YWRhOnB3", "opcod_x", "\xff"]
)
def test_what_is_no_token_lets_nobody_in(stranger: TestClient, value: str) -> None:
    assert stranger.get("/api/v1/me", headers={b"authorization": value.encode("latin-1")}).status_code == 401


# ---------- the audit log ----------


def test_who_did_what_is_written_down(app: FastAPI, browsers: dict[str, TestClient], run_id: int) -> None:
    ada, vic = browsers["ada"], browsers["vic"]
    ada.patch("/api/v1/people/vic", json={"role": "viewer"})
    ada.post(f"/api/v1/runs/{run_id}:pause")
    vic.post(f"/runs/{run_id}/stop")
    sign_in(TestClient(app), "vic", "my secret typed wrong")
    sign_in(TestClient(app), "a password typed as a name", "x")
    found = [(e["who"], e["action"], e["object"], e["outcome"]) for e in ada.get("/api/v1/audit?limit=5").json()["items"]][::-1]
    assert found == [
        ("ada", "person.change", "person vic, viewer", "ok"),
        ("ada", "run.pause", f"run {run_id}", "ok"),
        ("vic", "run.stop", f"run {run_id}", "refused: 403"),
        ("vic", "login", "", "refused: wrong name or password"),
        ("", "login", "", "refused: wrong name or password"),
    ]
    assert "typed" not in ada.get("/api/v1/audit?limit=200").text
    entry = ada.get("/api/v1/audit", params={"who": "ada", "action": "run", "limit": 1}).json()["items"][0]
    assert re.fullmatch(r"session \d+", entry["means"])
    assert entry["address"] == "testclient"


def test_the_log_is_paged_without_gap_or_repeat(browsers: dict[str, TestClient]) -> None:
    everything = [item["id"] for item in browsers["ada"].get("/api/v1/audit?limit=500").json()["items"]]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = browsers["ada"].get("/api/v1/audit", params={"limit": 7, "cursor": cursor}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == everything


# ---------- nobody signs in ----------


def test_on_this_machine_without_passwords_one_does_everything_as_user(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path))
    migrate(app.state.engine)
    client = TestClient(app)
    assert client.get("/api/v1/me").json() == {"name": "user", "role": "admin", "scope": "admin", "means": "local", "signs_in": False}
    assert client.post("/api/v1/experiments", json={"preset": "tiny"}).status_code == 201
    assert client.get("/login", follow_redirects=False).headers["location"] == "/"
    assert client.post("/api/v1/tokens", json={"name": "x"}).status_code == 409
    assert client.post("/api/v1/people", json={"role": "member"}).status_code == 409
    assert client.get("/settings").status_code == client.get("/settings/audit").status_code == 200
    assert client.get("/api/v1/audit").json()["items"][-1]["who"] == "user"
    away = TestClient(app, client=("192.0.2.7", 4711))
    for path in ("/", "/api/v1/runs"):
        refused = away.get(path)
        assert refused.status_code == 403
        assert "OPCOD_AUTH=password" in refused.text
    app.state.engine.dispose()


def test_others_of_this_machine_read_nothing(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "home"))
    with TestClient(app):
        assert (tmp_path / "home").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("x-forwarded-for", "192.0.2.7", 403),
        ("x-forwarded-for", "127.0.0.1, 192.0.2.7", 403),
        ("x-real-ip", "2001:db8::1", 403),
        ("forwarded", 'for="[2001:db8::1]:4711";proto=https', 403),
        ("forwarded", "for=unknown", 403),
        ("x-forwarded-for", "127.0.0.1", 200),
        ("forwarded", 'for="[::1]:4711";proto=http', 200),
    ],
)
def test_a_proxy_on_this_machine_does_not_make_the_world_local(tmp_path: Path, name: str, value: str, status: int) -> None:
    app = create_app(Settings(home=tmp_path))
    migrate(app.state.engine)
    assert TestClient(app, client=("127.0.0.1", 4711)).get("/api/v1/runs", headers={name: value}).status_code == status
    app.state.engine.dispose()


def test_a_live_stream_ends_for_who_may_no_longer_see_it(
    app: FastAPI, engine: Engine, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.access.gate.RECHECK_SECONDS", 0.05)
    guest = add_person(engine, "uma", "viewer")
    token = make_token(engine, guest, "read")
    with served(app) as url, httpx.stream("GET", f"{url}/api/v1/runs/{run_id}/events", headers=bearer(token), timeout=60) as stream:
        lines = stream.iter_lines()
        assert stream.status_code == 200
        assert next(lines)
        with writing(engine) as session:
            (held,) = tokens.of_person(session, guest.id)
            tokens.revoke(session, guest, held.id or 0)
        for _ in lines:
            pass  # it ends, and cleanly: a broken answer would raise
