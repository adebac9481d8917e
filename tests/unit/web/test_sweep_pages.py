from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import reading
from app.experiments import sweeps
from app.experiments.sweep_points import SweepPlan, points
from app.idempotency import Asked
from app.web.sweep_page import sweep_page
from tests.browser.seeding import Story, end_run, events, feed
from tests.unit.app.factories import claimed
from tests.unit.web.ageless import ageless

FORM = {"name": "gates?", "preset": "tiny", "vary": "gates", "grid": "", "config": "", "key": "k1"}


@pytest.fixture
def sweep_id(engine: Engine) -> int:
    plan = SweepPlan("taus <b>", "tiny", grid={"method.gate.threshold": [0.1, 0.2, 0.4]})
    made, _ = sweeps.start(engine, "", plan, points(plan), owner="ann", asked=Asked("ann", None, "sweep"))
    with reading(engine) as session:
        runs = [point.run.id for point in sweeps.read(session, made).points if point.run]
    for number, run_id in enumerate(runs[:2]):
        claim = claimed(engine, run_id, worker=f"w{run_id}")
        story = Story(students=("student1", "student2"), domains=("densities", "protons"), seed=number, improves=number == 0)
        feed(engine, claim, list(events(story)))
        end_run(engine, claim, "completed")
    return made


def test_a_sweep_shows_values_against_scores_and_verdict(client: TestClient, engine: Engine, sweep_id: int) -> None:
    with reading(engine) as session:
        page = sweep_page(session, sweep_id)
    assert [line.values for line in page.lines] == [("0.1",), ("0.2",), ("0.4",)]
    assert [line.best for line in page.lines] == [True, False, False]
    assert (page.improved, page.judged) == (1, 2)
    assert page.lines[2].change is None
    text = client.get(f"/sweeps/{sweep_id}").text
    assert "taus &lt;b&gt;" in text
    assert text.count('class="rows-link"') == 3
    assert "2 of 3" in text
    assert ageless(client.get(f"/sweeps/{sweep_id}/body").text) in ageless(text)
    assert client.get("/sweeps/999").status_code == 404


def test_stopping_leaves_nothing_to_stop(client: TestClient, sweep_id: int) -> None:
    assert "Stop all" in client.get(f"/sweeps/{sweep_id}").text
    answer = client.post(f"/sweeps/{sweep_id}/stop", headers={"hx-request": "true"})
    assert "Stop all" not in answer.text
    assert "1 stopped" in answer.text


def test_the_list_names_what_varies(client: TestClient, sweep_id: int) -> None:
    text = client.get("/sweeps").text
    assert f'href="/sweeps/{sweep_id}"' in text
    assert "<code>method.gate.threshold</code>" in text
    assert ageless(client.get("/sweeps/list").text) in ageless(text)


def test_the_form_shows_its_points_before_the_launch(client: TestClient) -> None:
    assert "The four gates" in client.get("/sweeps/new").text
    checked = client.post("/sweeps/check", data=FORM | {"name": ""}).text
    assert "4 points" in checked
    assert "domain_selective" in checked
    assert (
        "12 points"
        in client.post("/sweeps/check", data=FORM | {"vary": "grid", "grid": "seed: [1, 2, 3, 4]\nmethod.gate.threshold: [0, 1, 2]"}).text
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vary": "grid", "grid": "method.gate.threshold: [-1]"}, "points.0.method.gate.threshold"),
        ({"vary": "grid", "grid": "seed: 3"}, "Write a list"),
        ({"vary": "grid", "grid": "seed: ["}, "cannot be read"),
        ({"vary": "grid", "grid": "3: [1]"}, "no setting&#39;s path"),
        ({"config": "schedule: {raunds: 1}"}, "points.0.schedule.raunds"),
        ({"name": " "}, "has no name"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_launched(client: TestClient, change: dict[str, Any], said: str) -> None:
    before = client.get("/api/v1/sweeps?limit=1").json()
    answer = client.post("/sweeps", data=FORM | change, headers={"hx-request": "true"})
    assert answer.status_code == 422
    assert said in answer.text
    assert client.get("/api/v1/sweeps?limit=1").json() == before


def test_a_form_sent_twice_launches_once_and_a_changed_one_again(client: TestClient) -> None:
    addresses = [
        client.post("/sweeps", data=data, follow_redirects=False).headers["location"] for data in (FORM, FORM, FORM | {"name": "again"})
    ]
    assert re.fullmatch(r"/sweeps/\d+", addresses[0])
    assert addresses[0] == addresses[1] != addresses[2]
