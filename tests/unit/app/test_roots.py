"""Experiments name files within the roots, and learn nothing of what lies outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.db import migrate
from app.guards import roots
from app.main import create_app
from app.settings import Settings
from tests.integration.service import make_data
from tests.people import add_person, signed_in


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    app = create_app(Settings(home=home, auth="password"))
    migrate(app.state.engine)
    add_person(app.state.engine, "max", "member")
    yield signed_in(app, "max")
    app.state.engine.dispose()


@pytest.fixture(scope="module")
def config(home: Path) -> dict[str, Any]:
    library = home / "library"
    library.mkdir()
    return make_data(library)


def judged(client: TestClient, config: dict[str, Any]) -> list[dict[str, str]]:
    answer = client.post("/api/v1/experiments?dry_run=true", json={"config": config})
    return answer.json().get("errors", []) if answer.status_code == 422 else []


def test_the_library_and_the_hub_are_open(client: TestClient, config: dict[str, Any]) -> None:
    assert judged(client, config) == []
    assert client.post("/api/v1/experiments?dry_run=true", json={"preset": "tiny"}).status_code == 200
    hub = deepcopy(config)
    hub["students"][0]["model"] = "Qwen/Qwen3-0.6B"
    hub["domains"][0]["train"] = "hub:owner/name:train"
    assert judged(client, hub) == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "http://169.254.169.254/v1", "http://[::1]:8000/v1", "http://no-such-host.invalid/v1"]
)
def test_a_students_server_is_a_host_that_the_service_may_call(client: TestClient, config: dict[str, Any], url: str) -> None:
    asked = deepcopy(config)
    asked["students"][1]["server"] = {"url": url, "model": "student"}
    (fault,) = judged(client, asked)
    assert fault["field"] == "students.1.server.url"
    assert "OPCOD_OUTBOUND_ALLOW" in fault["advice"]
    asked["students"][1]["server"]["url"] = "http://8.8.8.8/v1"
    assert judged(client, asked) == []


@pytest.mark.parametrize(
    "place", ["{secret}", "{missing}", "{folder}", "{home}/library/../outside.jsonl", "{link}", "{loop}", "/etc/passwd", "~root/x", "x\0y"]
)
@pytest.mark.parametrize("field", ["students.0.model", "domains.0.train"])
def test_what_lies_outside_is_refused_alike_whether_it_is_there_or_not(
    client: TestClient, config: dict[str, Any], home: Path, tmp_path: Path, place: str, field: str
) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"id": "s", "prompt": "the secret line A) yes B) no", "answer": "A"}\n')
    link, loop = home / "library" / "link.jsonl", home / "library" / "loop.jsonl"
    for path, target in ((link, secret), (loop, loop)):
        path.unlink(missing_ok=True)
        os.symlink(target, path)
    named = place.format(secret=secret, missing=tmp_path / "missing.jsonl", folder=tmp_path, home=home, link=link, loop=loop)
    asked = deepcopy(config)
    if field == "students.0.model":
        asked["students"][0]["model"] = named
    else:
        asked["domains"][0]["train"] = named
    (error,) = judged(client, asked)
    assert error["field"] == field
    assert error["message"] == "That lies outside of the folders that may be used here."
    assert str(home / "library") in error["advice"]
    form = client.post("/experiments/validate", data={"tab": "yaml", "yaml": __import__("yaml").safe_dump(asked), "preset": ""})
    assert "outside of the folders" in form.text
    assert "secret line" not in form.text


def test_a_run_is_not_started_once_its_files_turned_into_links_outside(
    client: TestClient, config: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    made = client.post("/api/v1/experiments", json={"config": config}).json()
    train = home / "library" / "train.jsonl"
    (tmp_path / "moved.jsonl").write_bytes(train.read_bytes())
    kept = train.read_bytes()
    train.unlink()
    os.symlink(tmp_path / "moved.jsonl", train)
    try:
        assert client.post(f"/api/v1/experiments/{made['id']}/runs").status_code == 422
    finally:
        train.unlink()
        train.write_bytes(kept)


def test_which_folders_are_open(home: Path, tmp_path: Path) -> None:
    assert roots.folders_of(Settings(home=home)) is None
    given = roots.folders_of(Settings(home=home, roots=(str(tmp_path),)))
    assert given is not None
    assert set(given) == {tmp_path.resolve(), *((home / own).resolve() for own in ("library", "runs"))}  # what the studio keeps can be used
    opened = roots.folders_of(Settings(home=home, auth="password", roots=(str(tmp_path),)))
    assert opened == (home.resolve() / "library", home.resolve() / "runs", tmp_path.resolve())
