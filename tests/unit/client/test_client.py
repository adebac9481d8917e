"""The typed client, against answers made up: what it sends, what it makes of them, and what it does when a stream breaks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, Client, ServiceError, asynchronous, synchronous
from app.client.generate import SOURCE, TARGET, blocking
from tests.loops import run

AT = datetime(2026, 1, 1, tzinfo=UTC)
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (asynchronous, synchronous):
        monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.0)


def client(handler: Handler, **arguments: Any) -> Client:
    return Client("http://studio", transport=httpx.MockTransport(handler), **arguments)


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Gives its text and then breaks, unless it is whole."""

    def __init__(self, text: str, *, whole: bool) -> None:
        self._text, self._whole = text, whole

    def __iter__(self) -> Iterator[bytes]:
        yield self._text.encode()
        if not self._whole:
            raise httpx.ReadError("the cable was cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


def told(number: int, kind: str, **data: Any) -> str:
    body = json.dumps({"seq": number, "kind": kind, "at": AT.isoformat(), **data})
    return f": ping\n\nevent: {kind}\nid: {number}\ndata: {body}\n\n"


def breaking_server(seen: list[str]) -> Handler:
    """Its first stream breaks after two events; its second tells the end, of which the first was only an earlier one."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/transitions"):
            last = {"id": 9, "at": AT.isoformat(), "from_status": "running", "to_status": "completed", "cause": "finished", "actor": "w"}
            return httpx.Response(200, json={"items": [last | {"at": "2026-01-01T00:00:00Z"}], "next_cursor": None})
        seen.append(request.headers["last-event-id"])
        if len(seen) == 1:
            return httpx.Response(200, stream=Broken(told(1, "round_started", round=1) + told(2, "step_finished"), whole=False))
        if len(seen) == 2:
            return httpx.Response(503, json={"title": "Service Unavailable", "detail": "The database does not answer."})
        return httpx.Response(200, stream=Broken(told(3, "status_changed", to="completed") + told(4, "never_read"), whole=True))

    return handle


def test_a_stream_that_breaks_goes_on_after_the_last_event() -> None:
    seen: list[str] = []
    with client(breaking_server(seen)) as studio:
        assert [event.id for event in studio.follow(7)] == [1, 2, 3]
    assert seen == ["0", "2", "2"]


def test_the_awaiting_client_does_the_same() -> None:
    seen: list[str] = []

    async def go() -> list[int]:
        async with AsyncClient("http://studio", transport=httpx.MockTransport(breaking_server(seen))) as studio:
            return [event.id async for event in studio.follow(7)]

    assert run(go) == [1, 2, 3]
    assert seen == ["0", "2", "2"]


def test_following_ends_with_the_runs_last_end_not_with_one_that_it_was_resumed_from() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/transitions"):
            last = {"id": 9, "at": "2026-01-01T00:00:09Z", "from_status": "running", "to_status": "completed", "cause": "", "actor": "w"}
            return httpx.Response(200, json={"items": [last], "next_cursor": None})
        events = [told(2, "status_changed", to="stopped"), told(3, "status_changed", to="queued")]
        late = told(4, "status_changed", to="completed").replace("00:00:00", "00:00:09")
        return httpx.Response(200, stream=Broken("".join([*events, late, told(5, "never_read")]), whole=True))

    with client(handle) as studio:
        assert [event.id for event in studio.follow(7)] == [2, 3, 4]


def test_waiting_gives_up_at_its_deadline() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody")

    with client(handle) as studio, pytest.raises(TimeoutError):
        studio.wait(7, timeout=0.0)


def test_a_refusal_has_the_servers_words_and_its_fields() -> None:
    problem = {
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "What was sent is not valid.",
        "errors": [{"field": "seed", "message": "must be a number", "advice": "Write one."}],
    }
    with client(lambda _: httpx.Response(422, json=problem)) as studio, pytest.raises(ServiceError) as raised:
        studio.create_experiment({"preset": "tiny", "config": {"seed": "x"}})
    assert "seed: must be a number Write one." in raised.value.message
    assert raised.value.status == 422
    assert raised.value.problem["errors"][0]["field"] == "seed"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(500, text="<h1>oops</h1>"), "answered 500"),
        (httpx.Response(500, json=["not", "a", "problem"]), "answered 500"),
        (httpx.Response(200, text="<title>A router's page</title>"), "not an OPCoD server"),
    ],
)
def test_what_is_no_answer_of_ours_is_said_in_words(answer: httpx.Response, said: str) -> None:
    with client(lambda _: answer) as studio, pytest.raises(ServiceError, match=said):
        studio.run(1)


def test_lists_are_read_page_by_page_and_no_further_than_asked() -> None:
    asked: list[httpx.QueryParams] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params)
        start = int(request.url.params.get("cursor", 0))
        size = int(request.url.params["limit"])
        items = [{"id": start + 1 + i, "n": i} for i in range(size)]
        return httpx.Response(200, json={"items": items, "next_cursor": str(start + size)})

    with client(handle) as studio:
        assert [item["id"] for item in studio.pages("/things", {"status": "running", "tag": None}, limit=450)] == list(range(1, 451))
    assert [dict(one) for one in asked][-1] == {"status": "running", "limit": "50", "cursor": "400"}


def test_token_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"items": [], "next_cursor": None})

    monkeypatch.setenv("OPCOD_TOKEN", "opcod_secret")
    monkeypatch.setenv("OPCOD_URL", "http://elsewhere:1234/")
    with Client(transport=httpx.MockTransport(handle)) as studio:
        assert studio.workers() == []
    assert str(seen[0].url) == "http://elsewhere:1234/api/v1/workers"
    assert seen[0].headers["authorization"] == "Bearer opcod_secret"


def test_an_export_that_breaks_leaves_no_half_file(tmp_path: Path) -> None:
    whole = False

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Broken('{"id": 1}\n', whole=whole))

    target = tmp_path / "metrics.jsonl"
    with client(handle) as studio:
        with pytest.raises(ServiceError, match="broke off"):
            studio.export_metrics(1, target)
        assert list(tmp_path.iterdir()) == []
        whole = True
        assert studio.export_metrics(1, target) == 10
        assert target.read_text() == '{"id": 1}\n'
        with pytest.raises(ServiceError, match="cannot be written"):
            studio.export_metrics(1, tmp_path / "nowhere" / "metrics.jsonl")


def test_the_blocking_client_is_the_awaiting_one_without_the_waiting() -> None:
    assert TARGET.read_text(encoding="utf-8") == blocking(SOURCE.read_text(encoding="utf-8"))


def test_a_program_that_imports_the_client_gets_neither_database_nor_web_framework() -> None:
    script = "import sys, app.client; print(*sorted({'sqlalchemy', 'sqlmodel', 'fastapi', 'starlette', 'torch'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
