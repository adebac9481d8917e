"""A pre-flight from the request to the page: asked for, carried out as a worker does, read, and held against a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import reading, writing
from app.experiments import estimates
from app.lifecycle import jobs
from app.lifecycle.queueing import PLAIN_CPU
from app.main import create_app
from app.settings import Settings
from app.tables import JobRow
from opcod.errors import UserError
from tests.browser.seeding import Story, seed_run
from worker.job import Job
from worker.preflighting import carry_out
from worker.settings import WorkerSettings

SMALL = {"questions": 2, "rollouts": 2, "validation_questions": 2, "samples": 1}
STORY = Story(rounds=1, steps=2, shut_in_round=None)


class Studio:
    """A server and, when told, a worker that takes the next job."""

    def __init__(self, home: Path, client: TestClient) -> None:
        self.home, self.client = home, client
        self.engine: Engine = client.app.state.engine  # type: ignore[attr-defined]

    def ask(self, **config: Any) -> dict[str, Any]:
        body = {"config": STORY.config().model_dump(mode="json") | config, "size": SMALL}
        answer = self.client.post("/api/v1/preflights", json=body)
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def read(self, path: str) -> Any:
        answer = self.client.get(f"/api/v1/preflights{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def page(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def work(self) -> None:
        with writing(self.engine) as session:
            claim = jobs.claim(session, worker="host:1", lease_seconds=60, offer=PLAIN_CPU)
        assert claim is not None
        with reading(self.engine) as session:
            row = jobs.get(session, claim.job_id)

        def tell(progress: float, result: dict[str, Any]) -> None:
            with writing(self.engine) as session:
                jobs.report(session, claim.job_id, claim.token, progress=progress, result=result)

        try:
            result = carry_out(Job(claim.job_id, None, row.request, row.owner, self.engine, WorkerSettings(home=self.home), tell))
        except UserError as error:
            with writing(self.engine) as session:
                jobs.fail(session, claim.job_id, claim.token, kind=error.kind, message=error.message, advice=error.advice)
        else:
            with writing(self.engine) as session:
                jobs.finish(session, claim.job_id, claim.token, result)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    home = tmp_path_factory.mktemp("home")
    with TestClient(create_app(Settings(home=home)), base_url="http://testserver") as client:
        yield Studio(home, client)


def test_a_preflight_is_asked_for_carried_out_read_and_held_against_a_run(studio: Studio) -> None:
    asked = studio.ask(name="Look at me")
    assert (asked["state"], asked["found"], asked["name"]) == ("queued", None, "Look at me")
    assert "No worker is connected" in studio.page(f"/preflights/{asked['id']}")
    studio.work()
    done = studio.read(f"/{asked['id']}")
    assert done["state"] == "completed"
    assert {one["tutee"] for one in done["found"]["students"]} == {"student1", "student2"}
    assert done["found"]["findings"]
    page = studio.page(f"/preflights/{asked['id']}")
    assert "Runs that are launched from these settings appear here" in page
    assert "every 1s" not in page
    assert "Scores, feedback and examples" in studio.page(f"/preflights/{asked['id']}/panel")
    (listed,) = studio.read("")["items"]
    assert (listed["id"], listed["found"]) == (asked["id"], None)
    assert "Look at me" in studio.page("/preflights")
    assert studio.read(f"/{asked['id']}/runs")["items"] == []

    run, other = seed_run(studio.engine, STORY), seed_run(studio.engine, Story(rounds=2, steps=1))
    estimates.keep(studio.engine, [run, other])
    assert studio.client.get(f"/api/v1/runs/{run}/estimate").json()["preflight_id"] == asked["id"]
    assert f"/preflights/{asked['id']}#foretold" in studio.page(f"/runs/{run}/estimate")
    (foretold,) = studio.read(f"/{asked['id']}/runs")["items"]
    assert (foretold["run_id"], foretold["status"]) == (run, "completed")
    seen = {one["tutee"]: one for one in done["found"]["students"]}
    breaks = studio.client.get(f"/api/v1/runs/{run}/break-rescue").json()["items"]
    for one in foretold["students"]:
        gap = seen[one["student"]]["self_teacher"]
        assert one["gain"]["predicted"] == pytest.approx(gap["teacher"] - gap["student"])
        assert 0 < one["gain"]["achieved"] < 0.2
        (of_all,) = [each for each in breaks if each["tutee"] == one["student"] and each["difficulty"] is None]
        assert one["break_rate"]["achieved"] == pytest.approx(of_all["break_rate"])
        assert 0 < one["kept"]["achieved"] < 1
    assert f"/runs/{run}" in studio.page(f"/preflights/{asked['id']}")


def test_the_launch_form_opens_with_what_was_looked_at_and_says_when_it_has_changed(studio: Studio) -> None:
    asked = studio.ask(name="Look at me too", seed=77)
    text = studio.page(f"/experiments/new?preflight={asked['id']}")
    assert 'value="Look at me too"' in text
    assert 'value="77"' in text
    assert f'name="preflight" value="{asked["id"]}"' in text
    changed = {"tab": "preset", "preset": "tiny", "preflight": str(asked["id"])}
    assert "Settings have changed" not in text
    assert "Settings have changed" in studio.client.post("/experiments/validate", data=changed | {"tab": "yaml", "yaml": tiny()}).text
    assert studio.client.get("/experiments/new?preflight=999").status_code == 404
    given_up = studio.client.post(f"/jobs/{asked['id']}/cancel", headers={"HX-Request": "true"})
    assert "Cancelled" in given_up.text
    assert studio.read(f"/{asked['id']}")["state"] == "cancelled"


def tiny() -> str:
    return Story(name="Another", rounds=5).config().to_yaml()


def test_the_form_asks_for_one_if_its_settings_hold(studio: Studio) -> None:
    sent = studio.client.post("/experiments/preflight", data={"tab": "preset", "preset": "tiny"}, headers={"HX-Request": "true"})
    assert (sent.status_code, "Waiting for a worker" in sent.text) == (200, True)
    refused = studio.client.post("/experiments/preflight", data={"tab": "yaml", "yaml": "seed: many"}, headers={"HX-Request": "true"})
    assert (refused.status_code, "Mend the settings first" in refused.text) == (422, True)
    newest = studio.read("")["items"][0]["id"]
    assert studio.client.post(f"/api/v1/jobs/{newest}:cancel").status_code == 204


def test_what_does_not_hold_is_not_looked_at(studio: Studio) -> None:
    answer = studio.client.post("/api/v1/preflights", json={"preset": "tiny", "config": {"schedule": {"rounds": 0}}})
    assert answer.status_code == 422
    assert studio.client.post("/api/v1/preflights", json={"preset": "tiny", "size": {"questions": 0}}).status_code == 422


def test_a_fault_of_the_students_is_told(studio: Studio) -> None:
    asked = studio.ask()
    with writing(studio.engine) as session:
        job = session.get_one(JobRow, asked["id"])
        config = job.request["config"]
        job.request = job.request | {"config": config | {"students": [one | {"model": "demo:gone"} for one in config["students"]]}}
    studio.work()
    done = studio.read(f"/{asked['id']}")
    assert done["state"] == "failed"
    assert "demo:gone" in done["error"]["message"]
    assert "demo:gone" in studio.page(f"/preflights/{asked['id']}")
