"""What stands before every route: host names, bodies, other sites, headers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.db import migrate
from app.guards.headers import SECURITY
from app.main import create_app
from app.settings import Settings


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), allowed_hosts=("studio.lan", "testserver"), body_megabytes=0.25, body_seconds=0.3
    )
    app = create_app(settings)
    migrate(app.state.engine)
    yield app
    app.state.engine.dispose()


@pytest.fixture(scope="module")
def client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def port(app: FastAPI) -> Iterator[int]:
    """The application behind a real server, to be spoken to byte by byte."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield int(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join()


def spoken(port: int, *parts: bytes) -> bytes:
    """The answer to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):  # it has heard enough
                break
        answer = b""
        try:
            while part := connection.recv(65_536):
                answer += part
                if b"\r\n\r\n" in answer and b"}" in answer:
                    break
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("studio.lan", True),
        ("STUDIO.lan.:8000", True),
        ("localhost:8000", True),
        ("app.localhost", True),
        ("127.0.0.1:1", True),
        ("[::1]:8000", True),
        ("192.0.2.1", True),
        ("evil.example", False),
        ("studio.lan.evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("studio.lan@evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_it_answers_to_its_own_names(client: TestClient, host: str, ours: bool) -> None:
    answer = client.get("/api/v1/health/live", headers={"host": host})
    assert answer.status_code == (200 if ours else 400)
    if not ours:
        assert answer.headers["content-type"] == "application/problem+json"
        assert "OPCOD_ALLOWED_HOSTS" in answer.json()["advice"]


def test_a_body_that_announces_too_much_is_refused_unread(client: TestClient) -> None:
    for path, size in (("/api/v1/experiments", 300_000), ("/login", 70_000)):
        answer = client.post(path, content=b"x" * size)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert "MiB" in answer.json()["detail"]
    assert client.post("/api/v1/experiments", content=b"x" * 200_000, headers={"content-type": "application/json"}).status_code == 422


@pytest.mark.parametrize("path", [b"/api/v1/experiments", b"/experiments", b"/experiments/validate"])
def test_a_body_that_says_nothing_of_its_length_is_cut_off(port: int, path: bytes) -> None:
    kind = b"application/json" if path.startswith(b"/api") else b"application/x-www-form-urlencoded"
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % (path, kind)
    answer = spoken(port, head, *[b"10000\r\n" + b"x" * 65_536 + b"\r\n"] * 8)
    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"9" * 30, b"abc"])
def test_a_length_that_is_none_is_refused(port: int, length: bytes) -> None:
    answer = spoken(port, b"POST /api/v1/experiments HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n" % length)
    assert answer.split()[1] in (b"400", b"413")


def test_a_body_that_stalls_is_given_up(port: int) -> None:
    head = b"POST /api/v1/experiments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    assert spoken(port, head).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://testserver"}, 200),
        ({"origin": "http://testserver", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://testserver.evil.example"}, 403),
        ({"origin": "http://testserver:81"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_other_sites_change_nothing(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/v1/experiments?dry_run=true", json={"preset": "tiny"}, headers=headers).status_code == status


def test_every_answer_says_what_a_browser_may_do_with_it(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(*_: object, **__: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("app.api.access.Me", fall)
    answers = {
        path: client.get(path) for path in ("/", "/nowhere", "/api/v1/runs", "/api/v1/nowhere", "/static/app.css", "/metrics", "/api/v1/me")
    }
    answers["host"] = client.get("/", headers={"host": "evil.example"})
    answers["body"] = client.post("/login", content=b"x" * 70_000)
    answers["site"] = client.post("/login", headers={"origin": "null"})
    assert answers["/api/v1/me"].status_code == 500
    for path, answer in answers.items():
        for name, value in SECURITY.items():
            assert answer.headers[name] == value, path
    policy = SECURITY["Content-Security-Policy"]
    assert "unsafe" not in policy
    for part in (
        "script-src 'self'",
        "style-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ):
        assert part in policy


def test_private_answers_are_kept_nowhere(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, auth="password", public_url="https://studio.example"))
    migrate(app.state.engine)
    client = TestClient(app, base_url="https://studio.example")
    assert client.get("/", headers={"accept": "text/html"}, follow_redirects=False).headers["cache-control"] == "no-store"
    assert client.get("/login").headers["cache-control"] == "no-store"
    assert "no-store" not in client.get("/static/app.css").headers.get("cache-control", "")
    assert client.get("/api/v1/runs").headers["cache-control"] == "private, no-cache"
    assert client.get("/login").headers["strict-transport-security"].startswith("max-age=")
    app.state.engine.dispose()
