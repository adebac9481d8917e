"""Domains and students, over REST and as pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import reading
from app.guards.roots import confined
from app.library import students
from app.records.library_checks import check_domain
from app.settings import Settings
from tests.browser.seeding import HOSTILE, Story, queue_run
from tests.integration.service import make_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def config(client: TestClient, engine: Engine, folder: Path) -> dict[str, Any]:
    queue_run(engine, Story())
    config = make_data(folder)
    answer = client.post("/api/v1/experiments", json={"name": "mine", "config": config})
    assert answer.status_code == 201, answer.text
    return config


def listed(client: TestClient, what: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in client.get(f"/api/v1/{what}").json()["items"]}


def test_a_domain_is_checked_as_its_experiment_reads_it(client: TestClient, config: dict[str, Any]) -> None:
    name = config["domains"][0]["name"]
    domain = listed(client, "domains")[name]
    check = client.get(f"/api/v1/domains/{domain['id']}/check").json()
    assert (check["readable_here"], check["usable"]) == (True, True)
    page = client.get(f"/domains/{domain['id']}").text
    for split in check["splits"]:
        assert f"{split['usable']}" in page
    assert check["sample"][0]["answer"] in page
    assert name in client.get("/domains").text


def test_what_is_wrong_now_is_said_and_hostile_text_is_text(client: TestClient, config: dict[str, Any]) -> None:
    domain = listed(client, "domains")[config["domains"][0]["name"]]
    train = Path(domain["train"])
    before = train.read_text(encoding="utf-8")
    try:
        train.write_text(f"{json.dumps({'prompt': HOSTILE, 'answer': HOSTILE})}\n{before}", encoding="utf-8")
        check = client.get(f"/api/v1/domains/{domain['id']}/check").json()
        page = client.get(f"/domains/{domain['id']}").text
    finally:
        train.write_text(before, encoding="utf-8")
    assert (check["usable"], check["findings"][0]["kind"]) == (False, "unanswerable")
    assert "Stops a run" in page
    assert "<script>window" not in page


def test_files_outside_of_the_bounds_are_not_looked_at(client: TestClient, engine: Engine, config: dict[str, Any], tmp_path: Path) -> None:
    domain = listed(client, "domains")[config["domains"][0]["name"]]
    student = listed(client, "students")[config["students"][0]["name"]]
    with reading(engine) as session, confined((tmp_path,)):
        check = check_domain(session, domain["id"])
        assert (check.readable_here, check.usable, check.sample, check.splits) == (False, None, [], [])
        settings, row = Settings(home=tmp_path), students.get(session, student["id"])
        assert students.check(row, settings).state == "hidden"
    with reading(engine) as session, confined((Path(domain["train"]).parent,)):
        assert check_domain(session, domain["id"]).usable
        assert students.check(row, settings).state == "whole"


def test_students_say_whether_their_files_are_there(client: TestClient, config: dict[str, Any]) -> None:
    student = listed(client, "students")["student1"]
    check = client.get(f"/api/v1/students/{student['id']}/check").json()
    assert (check["state"], check["vocabulary"] > 10, check["size_bytes"] > 1000) == ("whole", True, True)
    page = client.get("/students").text
    assert "demo:densities" in page
    assert "Whole" in page


@pytest.mark.parametrize("path", ["/api/v1/domains/99999/check", "/api/v1/students/99999/check", "/domains/99999"])
def test_what_is_not_there_is_said(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
