"""Deleting runs, what they keep, and what all of them may take, over REST."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update
from sqlmodel import col

from app.artefacts.store import Store, StoreError
from app.db import reading, writing
from app.lifecycle import runs
from app.main import create_app
from app.records import notices
from app.records.ingest import ingest
from app.settings import Settings
from app.tables import CheckpointRow, RunRow
from tests.unit.app.factories import claimed, queued_run, story
from tests.unit.worker.test_runner import eventually


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home / "web", store_url=f"file://{home / 'store'}", disk_budget_gib=1.0, reap_seconds=0.2)
    with TestClient(create_app(settings), base_url="http://testserver/api/v1") as client:
        yield client


@pytest.fixture
def engine(client: TestClient) -> Engine:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine


@pytest.fixture
def store(client: TestClient) -> Store:
    store: Store = client.app.state.store  # type: ignore[attr-defined]
    return store


@pytest.fixture
def run_id(engine: Engine, store: Store) -> int:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        ingest(session, run_id, claim.token, story())
        notices.add(session, run_id, "checkpoint", "The checkpoint of round 1 is damaged.")
        runs.finish(session, claim, "completed")
        session.exec(update(RunRow).where(col(RunRow.id) == run_id).values(size_bytes=100 * 2**20))
        session.exec(update(CheckpointRow).where(col(CheckpointRow.run_id) == run_id).values(state="whole"))
    files = {"exports/s1/model.safetensors": b"w" * 3_000_001, "exports/s1/config.json": b"{}", "exports/s2/model.safetensors": b"half"}
    for path, data in {**files, "log/000000000000000.txt": b"claimed by another machine\n"}.items():
        store.put_bytes(data, f"{claim.folder}/{path}")
    return run_id


def test_a_runs_files_exports_checkpoints_and_notices(client: TestClient, run_id: int) -> None:
    files = client.get(f"/runs/{run_id}/artefacts").json()["items"]
    assert {file["kind"] for file in files} == {"export", "log"}
    assert client.get(f"/runs/{run_id}/exports").json()["items"] == [{"student": "s1", "size_bytes": 3_000_003}]  # s2's is not whole
    assert [point["state"] for point in client.get(f"/runs/{run_id}/checkpoints").json()["items"]] == ["whole"]
    assert client.get(f"/runs/{run_id}/notices").json()["items"][0]["message"] == "The checkpoint of round 1 is damaged."
    assert client.get(f"/runs/{run_id}/logs").json()["text"] == "claimed by another machine\n"
    assert client.get(f"/runs/{run_id}").json()["size_bytes"] == 100 * 2**20


def test_an_export_is_a_tar_of_the_length_that_was_promised(client: TestClient, run_id: int) -> None:
    answer = client.get(f"/runs/{run_id}/exports/s1")
    assert int(answer.headers["content-length"]) == len(answer.content)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as bundle:
        assert bundle.getnames() == [f"run-{run_id}-s1/config.json", f"run-{run_id}-s1/model.safetensors"]
        weights = bundle.extractfile(f"run-{run_id}-s1/model.safetensors")
        assert weights is not None
        assert weights.read() == b"w" * 3_000_001


@pytest.mark.parametrize("student", ["s2", "nobody", "%2E%2E", "..%2F..%2Flog", "s1%2F.."])
def test_only_whole_exports_can_be_had_and_nothing_else(client: TestClient, run_id: int, student: str) -> None:
    assert client.get(f"/runs/{run_id}/exports/{student}").status_code == 404


def test_a_link_among_the_files_gives_nothing_away(client: TestClient, engine: Engine, store: Store, run_id: int, tmp_path: Path) -> None:
    secret = tmp_path / "secret.key"
    secret.write_text("the key")
    with reading(engine) as session:
        folder = Path(str(store).removeprefix("file://")) / session.get_one(RunRow, run_id).folder
    (folder / "exports/s1/notes.txt").symlink_to(secret)
    (folder / "log/000000000000027.txt").symlink_to(secret)
    assert not any("notes" in file["path"] for file in client.get(f"/runs/{run_id}/artefacts").json()["items"])
    assert b"the key" not in client.get(f"/runs/{run_id}/exports/s1").content
    assert "the key" not in client.get(f"/runs/{run_id}/logs").text


def test_a_deleted_run_is_gone_at_once_and_its_artefacts_soon(client: TestClient, engine: Engine, store: Store, run_id: int) -> None:
    assert client.delete(f"/runs/{run_id}").status_code == 204
    assert client.get(f"/runs/{run_id}").status_code == 404
    assert client.delete(f"/runs/{run_id}").status_code == 404
    assert client.post(f"/runs/{run_id}:resume").status_code == 404
    assert run_id not in [run["id"] for run in client.get("/runs").json()["items"]]
    eventually(lambda: not [path for path in store.sizes(".") if path.startswith(f"{run_id:06d}-")])


def test_a_held_run_refuses_to_be_deleted_and_says_its_state(client: TestClient, engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    refused = client.delete(f"/runs/{run_id}")
    assert (refused.status_code, refused.json()["state"]) == (409, "starting")
    with writing(engine) as session:
        runs.finish(session, claim, "failed")


def test_a_store_that_does_not_answer_is_a_503(client: TestClient, store: Store, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(prefix: str) -> dict[str, int]:
        raise StoreError("The artefact store does not answer.", advice="Start it.")

    monkeypatch.setattr(store, "sizes", away)
    for path in ("logs", "artefacts", "exports/s1"):
        answer = client.get(f"/runs/{run_id}/{path}")
        assert (answer.status_code, answer.json()["advice"]) == (503, "Start it.")


def test_the_budget_warns_before_it_is_reached_and_then_holds_new_runs_back(client: TestClient, engine: Engine, run_id: int) -> None:
    with writing(engine) as session:
        session.exec(update(RunRow).values(size_bytes=0))
        session.exec(update(RunRow).where(col(RunRow.id) == run_id).values(size_bytes=int(0.85 * 2**30)))
    found = client.get("/storage").json()
    assert (found["state"], found["budget_bytes"]) == ("near", 2**30)
    assert found["runs"][0]["id"] == run_id
    assert "budget_near" in [problem["code"] for problem in client.get("/health").json()["problems"]]
    with writing(engine) as session:
        session.exec(update(RunRow).where(col(RunRow.id) == run_id).values(size_bytes=2**30))
    waiting = queued_run(engine)
    assert "disk budget of 1 GiB is used up" in client.get(f"/runs/{waiting}").json()["waiting_for"]
    with writing(engine) as session:
        assert runs.claim(session, worker="w", device="cpu", lease_seconds=9) is None
