"""Students registered, uploaded, kept, given out and forgotten, over REST and as pages."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import reading, writing
from app.guards.roots import confined
from app.library import students, taking
from app.library.students import NewStudent
from app.tables import JobRow, StudentRow
from opcod.students.references import DEMO_FOLDER
from tests.browser.seeding import HOSTILE, Story, queue_run

API = "/api/v1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(DEMO_FOLDER / "novice", tmp_path_factory.mktemp("models") / "novice"))


def library(client: TestClient) -> Path:
    place: Path = client.app.state.settings.library_folder / "students"  # type: ignore[attr-defined]
    return place


def made(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refused(answer: Any, field: str) -> str:
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]][:1] == [field], answer.text
    return str(answer.json()["errors"])


def archive(*members: tuple[str, bytes], link: str | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("model.safetensors")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            tar.addfile(entry)
    return out.getvalue()


def test_a_folder_is_looked_into_before_it_is_listed(client: TestClient, folder: Path, tmp_path: Path) -> None:
    assert "There is no model folder" in refused(client.post(f"{API}/students", json={"name": "a", "model": "/no/such"}), "model")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    assert "pickle" in refused(client.post(f"{API}/students", json={"name": "a", "model": str(tmp_path)}), "model")
    student = made(client.post(f"{API}/students", json={"name": "base", "model": str(folder), "native_domain": "densities"}))
    assert (student["origin"], student["model"], student["owner"]) == ("registered", str(folder), "user")
    refused(client.post(f"{API}/students", json={"name": "base", "model": "Qwen/Qwen3-0.6B"}), "name")
    check = client.get(f"{API}/students/{student['id']}/check").json()
    assert (check["state"], check["parameters"], check["has_chat_template"]) == ("whole", 356_448, True)
    assert made(client.post(f"{API}/students", json={"name": "far", "model": "Qwen/Qwen3-0.6B"}))["model"] == "Qwen/Qwen3-0.6B"
    assert "base" in client.get("/students").text
    assert "356\u2009448" in client.get(f"/students/{student['id']}").text
    assert f'<option value="{folder}">base</option>' in client.get("/students/choices").text


def test_a_domain_that_is_not_there_is_told_at_its_field(client: TestClient, folder: Path) -> None:
    refusal = client.post(f"{API}/specialists", json={"name": "smith", "model": str(folder), "domain_id": 971})
    assert "There is no domain 971." in refused(refusal, "domain_id")
    student = made(client.post(f"{API}/students", json={"name": "lost", "model": str(folder)}))
    chat = {"students": [student["id"]], "domain_id": 971, "question_id": "q1"}
    assert "There is no domain 971." in refused(client.post(f"{API}/chats", json=chat), "domain_id")


def test_nothing_outside_of_the_bounds_is_registered(client: TestClient, engine: Engine, folder: Path, tmp_path: Path) -> None:
    settings = client.app.state.settings  # type: ignore[attr-defined]
    with confined((tmp_path,)), pytest.raises(Exception, match="outside of the folders"):
        taking.register(engine, settings, NewStudent(name="outside", model=str(folder)), person="ann")


def test_a_download_can_be_uploaded_and_is_forgotten_with_its_folder(client: TestClient, folder: Path) -> None:
    student = made(client.post(f"{API}/students", json={"name": "copied", "model": str(folder), "keep": True}))
    assert student["origin"] == "kept"
    assert Path(student["model"]).parent == library(client)
    download = client.get(f"{API}/students/{student['id']}/export")
    assert int(download.headers["content-length"]) == len(download.content)
    again = made(client.post(f"{API}/uploads/students?name=again", content=download.content))
    for file in folder.iterdir():
        assert (Path(again["model"]) / file.name).read_bytes() == file.read_bytes()
    third = made(client.post(f"{API}/students/{again['id']}:keep", json={"name": "third"}))
    assert client.delete(f"{API}/students/{again['id']}").status_code == 204
    assert not Path(again["model"]).exists()
    assert Path(third["model"]).is_dir()
    assert client.get(f"{API}/students/{again['id']}").status_code == 404


def test_uploads_that_are_no_student_leave_nothing_behind(client: TestClient, folder: Path, tmp_path: Path) -> None:
    before = set(library(client).iterdir())
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    config, tokenizer = ("config.json", whole["config.json"]), ("tokenizer.json", whole["tokenizer.json"])
    cases = {
        "no model": b"not a tar at all",
        "nothing": b"",
        "pickle": archive(config, tokenizer, ("pytorch_model.bin", b"\x80")),
        "link": archive(config, tokenizer, link="/etc/passwd"),
        "cut": archive(config, tokenizer, ("model.safetensors", whole["model.safetensors"][:5_000])),
        "twice": archive(config, tokenizer, ("deeper/config.json", b"{}")),
    }
    for name, body in cases.items():
        refused(client.post(f"{API}/uploads/students?name=bad", content=body), "body")
        assert set(library(client).iterdir()) == before, name
    climbing = archive(*((f"../../{name}", content) for name, content in whole.items()), ("../.bashrc", b"evil"))
    student = made(client.post(f"{API}/uploads/students?name=climber", content=climbing))
    assert {file.name for file in Path(student["model"]).iterdir()} == set(whole)
    assert {place.name for place in library(client).parent.iterdir()} == {"students"}


def test_the_pages_say_what_is_wrong_at_its_field_and_go_on_to_the_student(client: TestClient, folder: Path) -> None:
    fragment = {"HX-Request": "true"}
    wrong = client.post("/students", data={"name": HOSTILE, "model": "/no/such"}, headers=fragment)
    assert wrong.status_code == 422
    assert "Letters, digits" in wrong.text
    assert "<script>window" not in wrong.text
    right = client.post("/students", data={"name": "paged", "model": str(folder)}, headers=fragment)
    assert right.headers["hx-redirect"].startswith("/students/")
    files = [("files", (file.name, file.read_bytes())) for file in folder.iterdir()]
    nothing = client.post("/uploads/students", data={"name": "by-page"}, headers=fragment)
    assert "Choose the files" in nothing.text
    partly = client.post("/uploads/students", data={"name": "by-page"}, files=files[:1], headers=fragment)
    assert partly.status_code == 422
    done = client.post("/uploads/students", data={"name": "by-page"}, files=files, headers=fragment)
    assert "Whole" in client.get(done.headers["hx-redirect"]).text


def test_what_experiments_and_runs_need_is_not_forgotten(client: TestClient, engine: Engine, folder: Path) -> None:
    queue_run(engine, Story())
    with writing(engine) as session:
        named = students.add(session, StudentRow(name="named", model="demo:novice"))
    assert client.delete(f"{API}/students/{named}").status_code == 409
    kept = made(client.post(f"{API}/students", json={"name": "needed", "model": str(folder), "keep": True}))
    config = {"students": [{"name": "a", "model": kept["model"]}, {"name": "b", "model": "demo:protons"}]}
    assert client.post(f"{API}/experiments", json={"preset": "tiny", "config": config}).status_code == 201
    newest = client.get(f"{API}/experiments").json()["items"][0]["id"]
    assert client.post(f"{API}/experiments/{newest}/runs").status_code == 201
    assert "needs it" in client.delete(f"{API}/students/{kept['id']}").json()["detail"]
    assert Path(kept["model"]).is_dir()


def test_specialists_and_chats_are_checked_before_a_worker_is_asked(client: TestClient, engine: Engine, folder: Path) -> None:
    queue_run(engine, Story())
    domain = next(one for one in client.get(f"{API}/domains").json()["items"] if one["train"].startswith("demo:densities"))
    ask = {"name": "spec", "model": str(folder), "domain_id": domain["id"], "look": {"questions": 0}}
    refused(client.post(f"{API}/specialists", json=ask | {"model": "/no/such"}), "model")
    refused(client.post(f"{API}/specialists", json=ask | {"sft": {"epochs": 0}}), "sft.epochs")
    waiting = client.post(f"{API}/specialists", json=ask)
    assert (waiting.status_code, waiting.json()["state"]) == (202, "queued")
    refused(client.post(f"{API}/specialists", json=ask), "name")
    wrong = client.post("/specialists", data={"name": "spec", "model": "/no/such", "adapters": "x"}, headers={"HX-Request": "true"})
    assert wrong.status_code == 422
    assert "field required" in wrong.text.lower()
    assert "Waiting for a worker" in client.get(f"/specialists/{waiting.json()['id']}").text

    student = made(client.post(f"{API}/students", json={"name": "asked", "model": str(folder)}))
    refused(client.post(f"{API}/chats", json={"students": [99_999], "question": "x"}), "students.0")
    refused(
        client.post(f"{API}/chats", json={"students": [student["id"]], "domain_id": domain["id"], "question_id": "no such"}), "question_id"
    )
    for body in ({"students": [student["id"]]}, {"students": [student["id"]], "question": "x", "domain_id": 1, "question_id": "y"}):
        assert client.post(f"{API}/chats", json=body).status_code == 422
    page = client.get(f"/chats?domain_id={domain['id']}").text
    assert "A mineral is" in page
    asked = client.post("/chats", data={"first": str(student["id"]), "question": HOSTILE}, headers={"HX-Request": "true"})
    assert (asked.status_code, "<script>window" in asked.text) == (200, False)
    chat = client.get(f"{API}/chats").json()["items"][0]
    assert chat["question"] == HOSTILE
    client.post(f"/jobs/{chat['id']}/stop", headers={"HX-Request": "true"})
    assert client.get(f"{API}/chats/{chat['id']}").json()["state"] == "cancelled"
    with reading(engine) as session:
        assert session.get_one(JobRow, waiting.json()["id"]).request["config"]["sft"]["learning_rate"] == 2e-4
