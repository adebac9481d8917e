"""What a page has the browser load stays small."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.templating import STATIC
from tests.benchmarks.pages import LIMIT_KB, assets, compressed
from tests.browser.seeding import Story, seed_run


@pytest.fixture(scope="module")
def run_id(engine: Engine) -> int:
    return seed_run(engine, Story(rounds=1, steps=1, questions=1, rollouts=1))


@pytest.mark.parametrize("page", ["/", "/runs/{}", "/runs/{}/exchanges", "/runs/{}/report", "/compare?runs={}", "/experiments/new"])
def test_no_page_has_more_loaded_than_a_slow_line_carries(client: TestClient, run_id: int, page: str) -> None:
    found = assets(client.get(page.format(run_id)).text)
    assert "/static/app.css" in found
    assert {path for path in found if not (STATIC / path.removeprefix("/static/")).is_file()} == set()
    assert sum(map(compressed, found)) < 1000 * LIMIT_KB


def test_what_scripts_import_is_counted(client: TestClient, run_id: int) -> None:
    found = assets(client.get(f"/runs/{run_id}").text)
    assert {"/static/charts.js", "/static/charts/panel.js", "/static/charts/maths.js"} <= found
