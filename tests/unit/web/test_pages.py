"""Pages over HTTP: whole pages and fragments agree, errors have a page, forms answer with and without htmx."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import writing
from app.lifecycle import workers
from app.lifecycle.queueing import Offer
from app.tables import WorkerRow
from app.web.form import build_form, walk
from opcod.config import load_preset, parse_config
from tests.browser.seeding import HOSTILE, Story, queue_run, seed_run, start_run
from tests.integration.service import make_data
from tests.unit.web.ageless import ageless

HTMX = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def run_id(engine: Engine) -> int:
    return seed_run(engine, Story(text=HOSTILE))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return parse_config(make_data(tmp_path_factory.mktemp("data"))).model_dump(mode="json")


def sent(config: dict[str, Any], **more: str) -> dict[str, str]:
    return {field.path: field.value for field in walk(build_form(config).sections)} | {"tab": "form"} | more


@pytest.mark.parametrize(
    ("fragment", "target"), [("head", "head-live"), ("results", "results-live"), ("rounds", "rounds-live"), ("history", "history-live")]
)
def test_a_fragment_is_what_the_page_holds(client: TestClient, run_id: int, fragment: str, target: str) -> None:
    page = client.get(f"/runs/{run_id}").text
    part = client.get(f"/runs/{run_id}/{fragment}").text
    assert ageless(part) in ageless(page)
    assert f'id="{fragment}-live"' in page
    assert part.lstrip().startswith("<section")


def test_the_runs_table_is_what_the_page_holds(client: TestClient, run_id: int) -> None:
    page, part = client.get("/").text, client.get("/runs/list").text
    assert re.findall(r'id="run-\d+"', part) == re.findall(r'id="run-\d+"', page) != []


def test_pages_forbid_foreign_and_inline_scripts(client: TestClient, run_id: int) -> None:
    for address in ("/", f"/runs/{run_id}", "/experiments/new", "/docs/method", "/nowhere"):
        policy = client.get(address).headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy


def test_hostile_texts_are_escaped_everywhere(client: TestClient, run_id: int) -> None:
    listing = client.get(f"/runs/{run_id}/exchanges").text
    first = re.search(r"/exchanges/(\d+)", listing)
    assert first
    for address in ("/", f"/runs/{run_id}", f"/runs/{run_id}/exchanges", f"/exchanges/{first[1]}"):
        text = client.get(address).text
        assert "<script>window" not in text
        assert "<img src=x" not in text
        assert "\u202e" not in text


def test_series_cover_what_the_rows_hold(client: TestClient, run_id: int) -> None:
    part = client.get(f"/runs/{run_id}/series", params={"name": "student1/train/loss", "curves": 0, "tallies": 0}).json()
    assert {name.rsplit("/", 1)[-1] for name in part["names"]} >= {"loss", "kept_fraction"}
    assert part["curves"]["items"]["student1/train/loss"]["first"] == list(range(1, 19))
    assert sum(item[5] for item in part["tallies"]["items"]) == 2 * 18 * 8
    assert client.get("/runs/999999/series").status_code == 404
    assert client.get(f"/runs/{run_id}/series", params={"curves": -1}).status_code == 422


def test_errors_are_pages_and_fragments(client: TestClient) -> None:
    page = client.get("/runs/999999")
    assert page.status_code == 404
    assert "There is no run 999999." in page.text
    assert "<html" in page.text
    part = client.get("/runs/999999", headers=HTMX)
    assert part.status_code == 404
    assert "<html" not in part.text
    assert client.get("/runs/99999999999999999999999").status_code == 404


def test_our_own_error_says_where_to_look(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("app.web.run_routes.runs_list", fall)
    page = client.get("/?q=a+list+that+nobody+has+asked+for")
    assert page.status_code == 500
    assert "Our mistake" in page.text
    assert "secret detail" not in page.text


def test_stop_and_resume_answer_both_ways(client: TestClient, engine: Engine) -> None:
    claim = start_run(engine, Story())
    plain = client.post(f"/runs/{claim.run_id}/stop", follow_redirects=False)
    assert (plain.status_code, plain.headers["location"]) == (303, f"/runs/{claim.run_id}")
    again = client.post(f"/runs/{claim.run_id}/stop", headers=HTMX)
    assert again.status_code == 409
    assert "it cannot be stopped" in again.text
    assert 'data-status="stopping"' in again.text
    assert client.post(f"/runs/{claim.run_id}/resume").status_code == 409


def test_a_press_sent_twice_makes_one_run(client: TestClient, config: dict[str, Any]) -> None:
    form = sent(config, key="the-same-key")
    first = client.post("/experiments", data=form, follow_redirects=False)
    second = client.post("/experiments", data=form, follow_redirects=False)
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    htmx = client.post("/experiments", data=sent(config), headers=HTMX)
    assert htmx.headers["hx-redirect"].startswith("/runs/")


def test_what_is_wrong_comes_back_with_what_was_typed(client: TestClient, config: dict[str, Any]) -> None:
    answer = client.post("/experiments", data=sent(config) | {"method.gate.threshold": "-1", "name": "<b>mine</b>"})
    assert answer.status_code == 422
    assert "&lt;b&gt;mine&lt;/b&gt;" in answer.text
    assert 'value="-1"' in answer.text
    assert "greater than or equal to 0" in answer.text


def test_pages_and_rest_judge_alike(client: TestClient, config: dict[str, Any]) -> None:
    broken = config | {"schedule": {**config["schedule"], "rounds": 0}}
    rest = client.post("/api/v1/experiments?dry_run=true", json={"config": broken}).json()
    page = client.post("/experiments/validate", data=sent(config) | {"schedule.rounds": "0"}).text
    for problem in rest["errors"]:
        assert problem["field"] in page
        assert problem["message"] in page


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1\n- 2",
        "students: 5",
        "a: &a [*a]",
        "students: [{}]\ndomains: [[]]",
        "x: " + "[" * 500,
        "? [1]\n: 2",
        "method: {algorithm: {}}",
    ],
)
def test_no_yaml_breaks_the_page(client: TestClient, text: str) -> None:
    for show in ("form", "yaml"):
        answer = client.post("/experiments/form", data={"tab": "yaml", "yaml": text, "show": show, "preset": "tiny"})
        assert answer.status_code == 200
        assert "to mend" in answer.text


def test_yaml_that_says_more_than_the_form_stays_yaml(client: TestClient, config: dict[str, Any]) -> None:
    text = parse_config(config).to_yaml() + "colour: blue\n"
    answer = client.post("/experiments/form", data={"tab": "yaml", "yaml": text, "show": "form"}).text
    assert 'id="yaml"' in answer
    assert f"colour, line {len(text.splitlines())}" in answer


def test_one_click_launches_a_preset_and_an_unknown_one_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_config(load_preset("demo"))
    refused = client.post("/experiments", data={"tab": "preset", "preset": "../../etc/passwd"})
    assert refused.status_code == 422
    assert "Choose one of" in refused.text


def test_the_queue_page_moves_and_cancels_and_says_what_the_state_refuses(client: TestClient, engine: Engine) -> None:
    first, second = queue_run(engine, Story(name="First")), queue_run(engine, Story(name="Second"))

    def waiting() -> list[int]:
        return [
            int(number) for number in re.findall(r'id="waiting-(\d+)"', client.get("/queue/list").text) if int(number) in (first, second)
        ]

    assert waiting() == [first, second]
    moved = client.post(f"/runs/{second}/move", data={"position": "1"}, headers=HTMX)
    assert moved.status_code == 200
    assert waiting() == [second, first]
    assert client.post(f"/runs/{first}/stop?to=queue", headers=HTMX).status_code == 200
    assert waiting() == [second]
    refused = client.post(f"/runs/{first}/move", data={"position": "1"}, headers=HTMX)
    assert refused.status_code == 409
    assert f"Run {first} is stopped; it cannot be moved" in refused.text


def test_a_run_is_filed_and_found_by_its_tag(client: TestClient, run_id: int) -> None:
    sent = {"name": "Renamed", "tags": "tau 0.4, best of <b>", "priority": "3", "archived": ""}
    saved = client.post(f"/runs/{run_id}/filing", data=sent, headers=HTMX)
    assert "Saved" in saved.text
    assert "best of &lt;b&gt;" in saved.text
    assert f'id="run-{run_id}"' in client.get("/", params={"tag": "tau 0.4"}).text
    assert f'id="run-{run_id}"' not in client.get("/", params={"tag": "tau"}).text
    client.post(f"/runs/{run_id}/filing", data=sent | {"archived": "1"}, headers=HTMX)
    assert f'id="run-{run_id}"' not in client.get("/").text
    assert f'id="run-{run_id}"' in client.get("/", params={"archived": "1"}).text
    wrong = client.post(f"/runs/{run_id}/filing", data=sent | {"priority": "many"}, headers=HTMX)
    assert wrong.status_code == 422
    assert "Priority" in wrong.text
    client.post(f"/runs/{run_id}/filing", data=sent, headers=HTMX)


def test_starting_over_shows_the_new_run_and_refuses_a_second(client: TestClient, engine: Engine) -> None:
    run_id = seed_run(engine, Story(name="Over"))
    answer = client.post(f"/runs/{run_id}/retry", headers=HTMX)
    new = answer.headers["hx-redirect"]
    assert f'copied from <a href="/runs/{run_id}"' in client.get(new).text
    again = client.post(f"/runs/{run_id}/retry", headers=HTMX)
    assert again.status_code == 409
    assert "being retried as run" in again.text


def test_the_workers_page_tells_the_living_from_the_silent(client: TestClient, engine: Engine) -> None:
    with writing(engine) as session:
        workers.heartbeat(session, "lively", host="h", pid=1, device="A100, 80 GiB", offer=Offer(("gpu", "cpu"), 80.0))
        workers.heartbeat(session, "silent", host="h", pid=2, device="cpu")
        row = session.get(WorkerRow, "silent")
        assert row is not None
        row.seen_at -= timedelta(minutes=5)
    page = client.get("/workers").text
    assert page.index("lively") < page.index("Idle") < page.index("silent") < page.index("Silent")
    assert "gpu, cpu" in page
