"""Uploads over REST and by the page's forms: what is taken in, what is refused, what is kept, and when it may go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlmodel import col, select
from typer.testing import CliRunner

from app.access.tables import AuditRow
from app.cli.main import cli
from app.client import Client
from app.db import migrate, reading
from app.main import create_app
from app.settings import Settings
from opcod.config import DomainConfig
from opcod.tasks.questions import load_domain
from tests.integration.service import served
from tests.people import add_person, signed_in

API = "/api/v1/uploads"
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    app = create_app(Settings(home=tmp_path_factory.mktemp("home"), auth="password", upload_megabytes=1))
    migrate(app.state.engine)
    for name, role in (("ada", "admin"), ("max", "member"), ("mia", "member"), ("vic", "viewer")):
        add_person(app.state.engine, name, role)  # type: ignore[arg-type]
    yield app
    app.state.engine.dispose()


@pytest.fixture(scope="module")
def library(app: FastAPI) -> Path:
    settings: Settings = app.state.settings
    return settings.library_folder


@pytest.fixture(scope="module")
def client(app: FastAPI) -> TestClient:
    return signed_in(app, "max")


def csv(start: int, count: int, more: str = "") -> bytes:
    lines = [f'{n},"Question {n}, which is it?\n\nA: this\nB: that",{"AB"[n % 2]}' for n in range(start, start + count)]
    return ("key,question,label\n" + "\n".join(lines) + f"\n{more}").encode()


def bring(client: TestClient, **contents: bytes | tuple[str, bytes]) -> Any:
    sent = {split: one if isinstance(one, tuple) else (f"{split}.csv", one) for split, one in contents.items()}
    return client.post(API, files=sent)


def brought(client: TestClient, **contents: bytes | tuple[str, bytes]) -> Answer:
    answer = bring(client, **contents)
    assert answer.status_code == 201, answer.text
    found: Answer = answer.json()
    return found


def leftovers(library: Path) -> set[str]:
    return {str(path.relative_to(library)) for folder in ("uploads", "domains") for path in (library / folder).glob("*")}


def test_an_upload_becomes_a_domain_that_an_experiment_takes(app: FastAPI, client: TestClient) -> None:
    upload = brought(client, train=csv(0, 40, "40,again?,A\n41,again?,A\n"), test=csv(30, 5))
    assert upload["guess"]["columns"] == {"id": "key", "prompt": "question", "answer": "label", "system": None, "solution": None}
    assert (upload["owner"], upload["files"][0]["rows"], upload["domain"]) == ("max", 42, None)

    mapping: Answer = {"name": "letters", "hold_out": {"validation": 4}}
    check = client.post(f"{API}/{upload['id']}:check", json=mapping).json()
    assert (check["ready"], {mend["name"]: mend["rows"] for mend in check["mends"]}) == (False, {"duplicates": 1, "leaks": 5, "ids": 10})
    refused = client.post(f"{API}/{upload['id']}:save", json=mapping)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "test_in_train")

    mapping["mend"] = ["duplicates", "leaks"]
    saved = client.post(f"{API}/{upload['id']}:save", json=mapping)
    assert saved.status_code == 201, saved.text
    domain = saved.json()["domain"]
    assert (domain["questions"], domain["mended"]) == ({"train": 32, "validation": 4, "test": 5}, {"duplicates": 1, "leaks": 5})
    data = load_domain(DomainConfig.model_validate(domain["config"]))
    assert (len(data.train), data.notes) == (32, ())
    again = client.post(f"{API}/{upload['id']}:save", json=mapping)
    assert (again.status_code, "do not change" in again.json()["detail"]) == (409, True)

    listed = client.get("/api/v1/domains").json()["items"][0]
    assert (listed["name"], listed["owner"], listed["upload_id"]) == ("letters", "max", upload["id"])
    checked = client.post("/api/v1/experiments?dry_run=true", json={"preset": "tiny", "config": using(domain["config"])})
    assert checked.status_code == 200, checked.text
    form = client.get(f"/experiments/new?domain={domain['domain_id']}").text
    assert domain["config"]["train"] in form
    assert "in order" in form

    experiment = client.post("/api/v1/experiments", json={"preset": "tiny", "config": using(domain["config"])}).json()
    run = client.post(f"/api/v1/experiments/{experiment['id']}/runs").json()
    kept = client.delete(f"{API}/{upload['id']}")
    assert (kept.status_code, f"run {run['id']}" in kept.json()["detail"]) == (409, True)
    assert f"run {run['id']}" in client.post(f"/uploads/{upload['id']}/delete").text
    client.post(f"/api/v1/runs/{run['id']}:stop")
    assert client.delete(f"/api/v1/runs/{run['id']}").status_code in (200, 202, 204)
    assert client.delete(f"{API}/{upload['id']}").status_code == 204
    assert client.get(f"/api/v1/domains/{domain['domain_id']}/check").status_code == 404
    assert not Path(domain["config"]["train"]).exists()
    with reading(app.state.engine) as session:
        deeds = session.exec(select(AuditRow).where(col(AuditRow.object) == f"upload {upload['id']}").order_by(col(AuditRow.id))).all()
    assert [(deed.action, deed.outcome) for deed in deeds if deed.outcome == "ok"] == [
        ("upload.create", "ok"), ("upload.save", "ok"), ("upload.delete", "ok")
    ]  # fmt: skip
    assert all(deed.action != "upload.check" for deed in deeds)


def using(config: Answer) -> Answer:
    return {
        "domains": [config],
        "students": [{"name": "a", "model": "demo:densities"}, {"name": "b", "model": "demo:protons"}],
    }


def parquet(folder: Path, table: pa.Table) -> tuple[str, bytes]:
    path = folder / "made.parquet"
    pq.write_table(table, path)
    return "made.parquet", path.read_bytes()


def test_jsonl_and_parquet_are_read_as_training_reads_them(client: TestClient, tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"v{n}", "question": f"Validation {n}?", "label": "A"}, ensure_ascii=False) for n in range(3)]
    table = pa.table({"question": [f"Test {n}?" for n in range(4)], "label": ["A", "B"] * 2, "choices": [["x"]] * 4})
    upload = brought(client, train=csv(0, 4), validation=("v.ndjson", "\n".join(lines).encode()), test=parquet(tmp_path, table))
    assert [(file["split"], file["name"], file["rows"]) for file in upload["files"]] == [
        ("train", "train.csv", 4), ("validation", "v.ndjson", 3), ("test", "made.parquet", 4)
    ]  # fmt: skip
    assert upload["files"][2]["columns"][2] == {"name": "choices", "kind": "other", "filled": 4, "example": "[]"}
    assert client.post(f"{API}/{upload['id']}:check", json={"name": "x"}).json()["ready"]
    wrong = client.post(f"{API}/{upload['id']}:check", json={"name": "x", "columns": {"prompt": "choices", "answer": "label"}}).json()
    assert any("holds a list" in example for finding in wrong["findings"] for example in finding["examples"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"prompt": "p", "answer": "A"}\n{"prompt": \n', "a.jsonl:2 is no valid JSON"),
        ("a.jsonl", b'{"prompt": "p"}\n' + b"[" * 100_000, "a.jsonl:2"),
        ("a.jsonl", b'[1]\n', "a.jsonl:1 is no JSON object"),
        ("a.csv", b'a,b\n1,2\n"x,3\n', "a.csv:3 is no valid CSV"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "a.csv:3 has 3 cells"),
        ("a.csv", b"id;question\n1;what\n", "a.csv:1 is a single cell"),
        ("a.csv", b"a,a\n1,2\n", "names a column twice"),
        ("a.csv", b"a,b\n\xff\xfe,2\n", "a.csv:2 is not UTF-8"),
        ("a.csv", ",".join(f"c{n}" for n in range(1_001)).encode() + b"\n" + b",".join([b"1"] * 1_001), "more than 1,000 columns"),
        ("a.parquet", b"PAR1 nothing PAR1", "no valid Parquet file"),
        ("a.pkl", b"\x80\x04cos\nsystem\n", "no ending that is understood"),
        ("a.jsonl", b"\n\n", "a.jsonl is empty"),
    ],
)  # fmt: skip
def test_broken_and_hostile_files_are_refused_with_their_place_and_leave_nothing(
    client: TestClient, library: Path, name: str, content: bytes, words: str
) -> None:
    before = leftovers(library)
    answer = bring(client, train=csv(0, 3), test=(name, content))
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert (error["field"], words in error["message"], str(library) in error["message"]) == ("test", True, False), error
    assert leftovers(library) == before


def test_a_small_parquet_file_that_stands_for_much_is_not_unpacked(client: TestClient, tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 10_000]))
    name, content = parquet(tmp_path, pa.table({"prompt": column, "answer": ["A"] * 20_000}))
    assert len(content) < 50_000
    answer = bring(client, train=(name, content))
    assert (answer.status_code, "unpacked" in answer.json()["errors"][0]["message"]) == (422, True)


def test_too_much_at_once_is_refused_and_so_is_a_full_disk(client: TestClient, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bring(client, train=b"x" * (1 << 20) + b"more").status_code == 413
    before = leftovers(library)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    answer = bring(client, train=csv(0, 3))
    assert (answer.status_code, "full" in answer.json()["detail"]) == (507, True)
    assert leftovers(library) == before


def test_members_bring_and_delete_their_own_and_viewers_look(app: FastAPI, client: TestClient) -> None:
    upload = brought(client, train=csv(0, 30))
    place, mapping = f"{API}/{upload['id']}", {"name": "x", "hold_out": {"validation": 3, "test": 3}}
    viewer, other, admin = (signed_in(app, name) for name in ("vic", "mia", "ada"))
    assert bring(viewer, train=csv(0, 3)).status_code == 403
    assert viewer.get(place).json()["owner"] == "max"
    page = viewer.get(f"/uploads/{upload['id']}").text
    assert "Question 0" in page
    assert "Save the domain" not in page
    for stranger in (viewer, other):
        assert stranger.delete(place).status_code == 403
        assert stranger.post(f"{place}:save", json=mapping).status_code == 403
        assert stranger.post(f"/uploads/{upload['id']}/save", data={"name": "x"}).status_code == 403
    assert admin.delete(place).status_code == 204
    assert client.get(place).status_code == 404


def test_what_is_wrong_with_a_form_is_said_at_its_fields(client: TestClient) -> None:
    upload = brought(client, train=csv(0, 30))
    sent = {"prompt": "1", "answer": "", "name": "no good", "verifier": "multiple_choice", "hold_validation": "many", "hold_test": "3"}
    page = client.post(f"/uploads/{upload['id']}/save", data=sent)
    assert (page.status_code, "Choose a column." in page.text) == (422, True)
    page = client.post(f"/uploads/{upload['id']}/save", data=sent | {"answer": "2"})
    assert (page.status_code, "the first a letter or digit" in page.text, "valid integer" in page.text) == (422, True, True)
    missing = client.post("/uploads", files={"train": ("", b"")}, headers={"hx-request": "true"})
    assert (missing.status_code, "There is no file for train" in missing.text) == (422, True)


def test_client_and_shell_bring_check_save_and_delete(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "home"))
    path = tmp_path / "facts.csv"
    path.write_bytes(csv(0, 40, "40,again?,A\n41,again?,A\n"))
    with served(app) as url, Client(url) as studio:
        upload = studio.upload(path)
        mapping: Answer = {"name": "facts", "hold_out": {"validation": 4, "test": 4}}
        assert studio.check_upload(upload.id, mapping).ready
        saved = studio.save_upload(upload.id, mapping)
        assert saved.domain is not None
        assert studio.check_domain(saved.domain.domain_id).usable
        studio.delete_upload(upload.id)
        assert list(studio.domains()) == []

        asked = ["upload", str(path), "--name", "facts", "--hold-validation", "4", "--url", url]
        without_test = CliRunner().invoke(cli, asked)
        assert (without_test.exit_code, "There is no question in test" in without_test.stderr) == (1, True)
        done = CliRunner().invoke(cli, [*asked, "--hold-test", "4", "--mend", "duplicates"])
        assert done.exit_code == 0, done.output
        config = DomainConfig.model_validate(yaml.safe_load(done.stdout)["domains"][0])
        assert (config.name, len(load_domain(config).train)) == ("facts", 33)
        assert [found.domain is None for found in studio.uploads()] == [False, True]
