from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.integration.service import make_data


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(home=tmp_path / "home")), base_url="http://testserver/api/v1") as client:
        yield client


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return make_data(tmp_path)


def test_an_experiment_is_made_read_and_listed(client: TestClient, config: dict[str, Any]) -> None:
    made = client.post("/experiments", json={"name": "first", "config": config})
    assert made.status_code == 201
    experiment = made.json()
    assert experiment["name"] == experiment["config"]["name"] == "first"
    assert experiment["preset"] is None
    assert experiment["config"]["method"]["loss"]["alpha"] == 0.5  # defaults are told
    assert client.get(f"/experiments/{experiment['id']}").json() == experiment
    assert client.get("/experiments").json() == {"items": [experiment], "next_cursor": None}
    assert {student["model"] for student in client.get("/students").json()["items"]} == {s["model"] for s in config["students"]}
    assert [domain["name"] for domain in client.get("/domains").json()["items"]] == ["facts"]


def test_a_dry_run_checks_and_stores_nothing(client: TestClient, config: dict[str, Any]) -> None:
    answer = client.post("/experiments?dry_run=true", json={"config": config})
    assert answer.status_code == 200
    assert answer.json()["valid"] is True
    assert answer.json()["config"]["schedule"]["rounds"] == 2
    assert client.get("/experiments").json()["items"] == []


def test_the_same_idempotency_key_makes_one_experiment(client: TestClient, config: dict[str, Any]) -> None:
    answers = [client.post("/experiments", json={"config": config}, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert len(client.get("/experiments").json()["items"]) == 1


def test_lists_are_paged_to_the_end(client: TestClient, config: dict[str, Any]) -> None:
    ids = [client.post("/experiments", json={"config": config}).json()["id"] for _ in range(5)]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get("/experiments", params={"limit": 2, "cursor": cursor}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == ids[::-1]


def broken(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    config = deepcopy(config)
    *way, last = path.split(".")
    place: Any = config
    for part in way:
        place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
    place[int(last) if last.isdigit() else last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("method.gate.threshold", -0.1, "method.gate.threshold"),
        ("method.loss.top_k", 0, "method.loss.top_k"),
        ("students.0.name", "../../etc", "students.0.name"),
        ("students.1.name", "s1", "students"),
        ("students.0.native_domain", "history", "students.0.native_domain"),
        ("schedule.raunds", 3, "schedule.raunds"),
        ("seed", "soon", "seed"),
        ("domains", [], "domains"),
        ("domains.0.validation", "", "domains.0.validation"),
        ("method.feedback.templates.anchored", "no placeholder", "method.feedback.templates.anchored"),
        ("students.1.model", "/nowhere/at/all", "students.1.model"),
        ("students.1.model", "demo:nobody", "students.1.model"),
    ],
)
def test_a_fault_is_told_at_its_field(client: TestClient, config: dict[str, Any], path: str, value: Any, field: str) -> None:
    answer = client.post("/experiments", json={"config": broken(config, path, value)})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert [error["field"] for error in problem["errors"]] == [field]
    assert all(error["message"] for error in problem["errors"])
    assert client.get("/experiments").json()["items"] == []


def test_k_above_a_local_students_vocabulary_is_told_before_anything_is_stored(client: TestClient, config: dict[str, Any]) -> None:
    faulty = broken(broken(config, "students.0.model", "demo:densities"), "method.loss.top_k", 100_000)
    (error,) = client.post("/experiments", json={"config": faulty}).json()["errors"]
    assert error["field"] == "method.loss.top_k"
    assert "vocabulary" in error["message"]
    assert client.get("/experiments").json()["items"] == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "config.json"),
        (["config.json"], "no weights"),
        (["config.json", "pytorch_model.bin"], "pickle"),
        (["model.gguf"], "GGUF"),
        (["adapter_config.json", "adapter_model.safetensors"], "adapters"),
    ],
)
def test_a_folder_without_usable_weights_is_refused(
    client: TestClient, config: dict[str, Any], tmp_path: Path, files: list[str], said: str
) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    for name in files:
        (folder / name).write_bytes(b"")
    (error,) = client.post("/experiments", json={"config": broken(config, "students.0.model", str(folder))}).json()["errors"]
    assert error["field"] == "students.0.model"
    assert said in error["message"]
    assert error["advice"]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (None, "train.jsonl"),
        ("", "train.jsonl"),
        ("{broken\n", "train.jsonl:1"),
        ('{"id": "x", "question": "no prompt column", "answer": "A"}\n', "prompt"),
        ('{"id": "x", "prompt": "A) yes B) no?", "answer": "nobody"}\n', "nobody"),
        ('{"id": "x", "prompt": "A test question, number 0: A) yes B) no", "answer": "A"}\n', "test"),
    ],
)
def test_bad_data_is_told_before_anything_is_stored(
    client: TestClient, config: dict[str, Any], tmp_path: Path, train: str | None, said: str
) -> None:
    path = tmp_path / "train.jsonl"
    path.unlink() if train is None else path.write_text(train, encoding="utf-8")
    answer = client.post("/experiments", json={"config": config})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"].startswith("domains.0")
    assert said in error["message"]
    assert error["advice"]
    assert client.get("/experiments").json()["items"] == []


def test_every_fault_is_told_at_once(client: TestClient, config: dict[str, Any]) -> None:
    both = broken(broken(config, "students.0.model", "/nowhere"), "students.1.model", "/nowhere/else")
    errors = client.post("/experiments", json={"config": both}).json()["errors"]
    assert [error["field"] for error in errors] == ["students.0.model", "students.1.model"]


def test_an_unknown_preset_is_refused_with_the_known_ones(client: TestClient) -> None:
    (error,) = client.post("/experiments", json={"preset": "huge"}).json()["errors"]
    assert error["field"] == "preset"
    assert "tiny" in error["advice"]


@pytest.mark.parametrize("body", ["{", "[]", '"x"', '{"nmae": "typo"}', '{"config": 3}', ""])
def test_a_body_that_is_none_is_refused(client: TestClient, body: str) -> None:
    answer = client.post("/experiments", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]


def test_a_run_is_not_started_when_its_data_has_gone(client: TestClient, config: dict[str, Any], tmp_path: Path) -> None:
    experiment = client.post("/experiments", json={"config": config}).json()
    (tmp_path / "test.jsonl").unlink()
    answer = client.post(f"/experiments/{experiment['id']}/runs")
    assert answer.status_code == 422
    assert client.get("/runs").json()["items"] == []


def test_what_another_sites_page_sends_is_refused(client: TestClient, config: dict[str, Any]) -> None:
    for origin, status in (("https://evil.example", 403), ("null", 403), ("http://testserver", 201)):
        assert client.post("/experiments", json={"config": config}, headers={"origin": origin}).status_code == status
