"""Whatever is sent, to REST or to a form, is taken or refused in words: nothing breaks the service, on either database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.hostile import BY_NAME, Payload
from tests.integration.service import make_data
from tests.stores import PostgresUnavailableError, postgres_server

pytestmark = pytest.mark.slow

HARDEST = (
    "nul", "surrogate-high", "surrogate-swapped", "noncharacters", "tags", "emoji", "zalgo", "newlines", "c0", "c1",
    "bidi-unclosed", "line-separators", "log-json", "long-line", "deep-nesting", "deep-quotes", "json-break", "proto",
    "jinja", "format", "path-up", "path-absolute", "path-home", "path-nul", "path-encoded", "query-break", "sql",
    "sql-like", "yaml", "yaml-break", "yaml-scalars", "crlf-header", "csv-dde", "tex-specials", "rich-markup", "empty",
    "blank",
)  # fmt: skip
"""What stores, parsers and file systems stumble over; what browsers do is tested there."""

API = "/api/v1"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    if request.param == "sqlite":
        with TestClient(create_app(Settings(home=home)), raise_server_exceptions=False) as client:
            yield client
        return
    try:
        with postgres_server() as folder:
            settings = Settings(home=home, database_url=f"postgresql+psycopg://opcod@/postgres?host={folder}")
            with TestClient(create_app(settings), raise_server_exceptions=False) as client:
                yield client
    except PostgresUnavailableError as reason:
        pytest.skip(f"no PostgreSQL: {reason}")


@pytest.fixture(scope="module")
def config(site: TestClient, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run_id(site: TestClient, config: dict[str, Any]) -> int:
    experiment = site.post(f"{API}/experiments", json={"config": config}).json()["id"]
    return int(site.post(f"{API}/experiments/{experiment}/runs").json()["id"])


def bodies(config: dict[str, Any], text: str) -> Iterator[tuple[str, str, Any]]:
    """Method, path, and a body with the text at one place in it."""
    student, domain = config["students"][0], config["domains"][0]

    def with_student(**more: Any) -> dict[str, Any]:
        return {"config": {**config, "students": [{**student, **more}, config["students"][1]]}}

    def with_domain(**more: Any) -> dict[str, Any]:
        return {"config": {**config, "domains": [{**domain, **more}]}}

    yield "PATCH", "/runs/{run}", {"name": text}
    yield "PATCH", "/runs/{run}", {"tags": [text]}
    yield "PATCH", "/runs/{run}", {text: 1}
    yield "POST", "/runs/{run}:clone", {"name": text, "config": {text: text}}
    for body in (
        {"name": text, "config": config},
        {"preset": text},
        {"config": {**config, text: text}},
        {"config": {**config, "method": {"feedback": {"templates": {"generic": text}}}}},
        with_student(model=text),
        with_student(name=text),
        with_student(native_domain=text),
        with_domain(name=text),
        with_domain(train=text),
        with_domain(train=f"hub:a/b:{text}", validation="hub:a/b:x", test=f"hub:a/{text}:x"),
        with_domain(system_prompt=text, columns={"prompt": text}),
    ):
        yield "POST", "/experiments?dry_run=true", body
    yield "POST", "/sweeps?dry_run=true", {"name": text, "preset": "tiny", "grid": {text: [text]}}
    yield "POST", "/sweeps?dry_run=true", {"name": "s", "config": config, "overrides": [{"name": text}, {text: {text: text}}]}


def queries(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Addresses that take the text in their query."""
    for name in ("search", "tag", "owner", "cursor", "status"):
        yield f"{API}/runs", {name: text}
    for name in ("tutee", "domain", "question", "label", "round"):
        yield f"{API}/runs/{{run}}/exchanges", {name: text}
    yield f"{API}/runs/{{run}}/metrics", {"name": text, "after": text}
    yield f"{API}/labels", {"cursor": text}
    yield "/", dict.fromkeys(("q", "tag", "owner", "status", "before"), text)
    yield "/runs/{run}/exchanges", dict.fromkeys(("tutee", "domain", "round", "after"), text)
    yield "/experiments/new", {"preset": text}
    yield "/experiments/new", {"from": text}


def forms(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Forms of pages."""
    yield "/experiments/form", {"tab": "yaml", "yaml": text, "show": "form", "preset": text, "from": text, "key": text}
    yield "/experiments/form", {"tab": "yaml", "yaml": json.dumps({"name": text[:300], text[:300]: text[:300]}), "show": "form"}
    named = dict.fromkeys(("name", "students.0.name", "students.0.model", "domains.0.train", "domains.0.system_prompt", "change"), text)
    yield "/experiments/form", {"tab": "form", "show": "yaml", "preset": "tiny"} | named
    yield "/runs/{run}/filing", {"name": text, "tags": text, "priority": text}
    yield "/sweeps/check", {"name": text, "grid": text, "config": text, "vary": "grid", "preset": text}


@pytest.mark.parametrize("payload", [BY_NAME[name] for name in HARDEST], ids=lambda payload: payload.name)
def test_nothing_that_is_sent_breaks_the_service(site: TestClient, config: dict[str, Any], run_id: int, payload: Payload) -> None:
    text, place = payload.text, str(run_id)
    answers = []
    for method, path, body in bodies(config, text):
        sent = json.dumps(body)  # ASCII, so that half a pair can be sent
        headers = {"content-type": "application/json"}
        answers.append(site.request(method, API + path.replace("{run}", place), content=sent, headers=headers))
    if payload.stored == text or "\x00" in text:  # an address and a form have no half pairs
        short = text[:2_000]
        answers += [site.get(path.replace("{run}", place), params=query) for path, query in queries(short)]
        answers += [site.post(path.replace("{run}", place), data=form) for path, form in forms(short)]
        answers += [site.get(f"{prefix}/runs/{quote(short, safe='')}") for prefix in ("", API)]
        answers.append(site.put(f"{API}/exchanges/1/labels/{quote(short, safe='')}"))
    for answer in answers:
        assert answer.status_code < 500, f"{answer.request.method} {str(answer.request.url)[:200]}: {answer.text[:300]}"
        assert "set-cookie" not in answer.headers
        assert len(answer.text) < 2_000_000


def test_names_are_one_printable_line(site: TestClient, run_id: int) -> None:
    for name in ("nul", "newlines", "ansi-clear", "bidi-override", "zero-width", "log-line", "crlf-header", "line-separators"):
        for body in ({"name": BY_NAME[name].text[:100]}, {"tags": [BY_NAME[name].text[:50]]}):
            assert site.patch(f"{API}/runs/{run_id}", json=body).status_code == 422, name
    for name in ("homoglyphs", "rtl", "emoji"):
        text = BY_NAME[name].text.replace("\u200d", "")[:60].strip()
        assert site.patch(f"{API}/runs/{run_id}", json={"name": text}).json()["name"] == text


def test_json_is_yaml_here(site: TestClient, config: dict[str, Any]) -> None:
    text = json.dumps(config | {"name": "smile \U0001f642"})
    answer = site.post("/experiments/form", data={"tab": "yaml", "yaml": text, "show": "form"})
    assert 'value="smile \U0001f642"' in answer.text


@pytest.mark.parametrize("text", ["a: 2020-99-99", f"a: {'9' * 5000}", "a: !!int x", "a: !!float x", "x: &a {b: *a}", "seed: 0x"])
def test_values_that_yaml_trips_over_are_told(site: TestClient, text: str) -> None:
    for form in ({"tab": "yaml", "yaml": text, "show": "form"}, {"tab": "yaml", "yaml": text, "show": "yaml"}):
        answer = site.post("/experiments/form", data=form)
        assert answer.status_code == 200
        assert "to mend" in answer.text
    assert site.post("/sweeps/check", data={"name": "x", "vary": "grid", "grid": text, "config": text}).status_code < 500


@pytest.mark.parametrize("depth", [40, 500, 900, 5_000])
def test_what_is_nested_too_deeply_is_refused(site: TestClient, run_id: int, depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    bodies = {
        "/experiments?dry_run=true": f'{{"config":{deep}}}',
        f"/runs/{run_id}:clone": f'{{"name":"x","config":{deep}}}',
        "/sweeps?dry_run=true": f'{{"name":"x","preset":"tiny","overrides":[{deep}]}}',
    }
    for path, body in bodies.items():
        assert site.post(f"{API}{path}", content=body, headers={"content-type": "application/json"}).status_code == 422, path


def test_yaml_that_grows_is_refused(site: TestClient) -> None:
    """Within a grid, where any value may stand."""
    rows = ["  - &a0 [q, q, q, q]", *(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8))]
    grid = "\n".join(["method.gate.threshold:", *rows])
    for path in ("/sweeps/check", "/sweeps"):
        answer = site.post(path, data={"name": "x", "vary": "grid", "grid": grid, "preset": "tiny", "config": ""})
        assert "more than 100,000 values" in answer.text


def test_what_is_not_there_is_told_in_bounds(site: TestClient, config: dict[str, Any], tmp_path: Path) -> None:
    student = {**config["students"][0], "native_domain": "x" * 100_000}
    answer = site.post(f"{API}/experiments?dry_run=true", json={"config": {**config, "students": [student, config["students"][1]]}})
    assert answer.status_code == 422
    assert len(answer.text) < 10_000
