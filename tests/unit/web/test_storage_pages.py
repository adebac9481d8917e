"""The storage page, a run's files and notices, and the buttons that delete."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update
from sqlmodel import col

from app.artefacts.store import Store, StoreError
from app.artefacts.usage import set_budget
from app.db import reading, writing
from app.records import notices
from app.tables import RunRow
from tests.browser.seeding import HOSTILE, Story, seed_run, start_run

HTMX = {"HX-Request": "true"}


@pytest.fixture
def store(client: TestClient) -> Store:
    store: Store = client.app.state.store  # type: ignore[attr-defined]
    return store


def test_a_run_shows_its_files_and_what_happened_to_it(client: TestClient, engine: Engine, store: Store) -> None:
    run_id = seed_run(engine, Story())
    with writing(engine) as session:
        folder = session.get_one(RunRow, run_id).folder
        notices.add(session, run_id, "checkpoint", f"The checkpoint is damaged. {HOSTILE}")
    store.put_bytes(b"{}", f"{folder}/exports/student1/config.json")
    store.put_bytes(b"half", f"{folder}/exports/student2/model.safetensors")
    files = client.get(f"/runs/{run_id}/files").text
    assert f"/runs/{run_id}/exports/student1" in files
    assert 'student2"' not in files
    assert "Saving" in files
    page = client.get(f"/runs/{run_id}").text
    assert "The checkpoint is damaged." in page
    assert "<script>window" not in page
    assert client.get(f"/runs/{run_id}/exports/student1").headers["content-type"] == "application/x-tar"
    with writing(engine) as session:
        notices.end(session, run_id, "checkpoint")
    assert "The checkpoint is damaged." not in client.get(f"/runs/{run_id}/head").text


def test_a_store_that_is_away_takes_nothing_but_the_exports_from_the_page(
    client: TestClient, engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(prefix: str) -> dict[str, int]:
        raise StoreError("The artefact store s3://x does not answer.")

    run_id = seed_run(engine, Story())
    monkeypatch.setattr(store, "sizes", away)
    assert client.get(f"/runs/{run_id}").status_code == 200
    files = client.get(f"/runs/{run_id}/files")
    assert files.status_code == 200
    assert "does not answer" in files.text
    assert "Checkpoint, round 1" in files.text


def test_a_run_is_deleted_from_its_page_and_from_the_storage_page(client: TestClient, engine: Engine) -> None:
    first, second = seed_run(engine, Story(name="one")), seed_run(engine, Story(name="two"))
    held = start_run(engine, Story(name="three")).run_id
    with writing(engine) as session:
        session.exec(update(RunRow).where(col(RunRow.id).in_((first, second, held))).values(size_bytes=2**30))
        set_budget(session, 3.5)
    page = client.get("/storage").text
    assert f'id="stored-{first}"' in page
    assert "disk budget of 3.5 GiB" in page
    assert "disk budget of 3.5 GiB" in client.get("/").text
    answer = client.post(f"/runs/{first}/delete", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    part = client.post(f"/runs/{second}/delete?to=storage", headers=HTMX)
    assert part.status_code == 200
    assert f'id="stored-{second}"' not in part.text
    assert client.get(f"/runs/{first}").status_code == 404
    refused = client.post(f"/runs/{held}/delete?to=storage", headers=HTMX)
    assert refused.status_code == 409
    assert "Stop it first" in refused.text
    with writing(engine) as session:
        set_budget(session, 0)
    with reading(engine) as session:
        assert session.get_one(RunRow, held).deleted_at is None
