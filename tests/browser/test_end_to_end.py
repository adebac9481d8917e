"""A newcomer's way: launch the tiny demo from the form, watch a chart move, see the verdict, read an exchange and replay it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.integration.studio import Studio, studio

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

PATIENCE = 400_000
"""Milliseconds that the whole tiny run may take on a busy machine."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    home: Path = tmp_path_factory.mktemp("studio") / "home"
    with studio(home) as up:
        yield up


def test_from_the_form_to_the_verdict(up: Studio, new_context: Callable[..., BrowserContext]) -> None:
    page = new_context(base_url=up.url).new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    page.goto("/")
    expect(page.get_by_text("No runs yet")).to_be_visible()
    page.get_by_role("link", name="New experiment").first.click()
    page.locator(".preset", has_text="Tiny").click()
    page.locator("#in-name").fill("Launched by hand")
    expect(page.locator("#launch-check")).to_contain_text("are in order")
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url(re.compile(r"/runs/\d+$"))
    page.evaluate("window.stayed = true")
    expect(page.get_by_role("heading", name="Launched by hand")).to_be_visible()

    with up.telling(run_id=1):
        _watch_read_and_replay(page)
    assert errors == []


def _watch_read_and_replay(page: Page) -> None:
    loss = page.locator("[data-chart='loss']")
    expect(loss.locator("canvas")).to_be_visible(timeout=PATIENCE)
    first = page.locator("#charts").get_attribute("data-cursor")
    assert first
    expect(page.locator("#charts")).not_to_have_attribute("data-cursor", first, timeout=PATIENCE)

    expect(page.locator("#run-verdict .verdict-word")).to_have_text(re.compile("Yes|No$"), timeout=PATIENCE)
    expect(page.locator("#run-head .chip").first).to_have_text("Completed", timeout=PATIENCE)
    expect(page.get_by_role("heading", name="Final scores")).to_be_visible()
    expect(page.locator(".pareto .point.last")).to_have_count(2)
    assert page.evaluate("window.stayed"), "the page was loaded again on the way"

    page.get_by_role("link", name="Exchanges").click()
    page.locator("[data-row-link]").first.click()
    expect(page.locator("#exchange h3", has_text="Question")).to_be_visible()
    expect(page.locator(".siblings a")).to_have_count(4)
    expect(page.get_by_role("listbox", name="Tokens of the rollout").get_by_role("option").first).to_be_visible()

    page.get_by_label("Feedback to show").fill("iron is 8 .")
    page.get_by_label("Weights of the self-teacher").select_option(index=1)  # the newest checkpoint
    page.get_by_label("Answers to each prompt").fill("4")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".replay .chip")).to_have_text("Done", timeout=PATIENCE)
    expect(page.locator(".replay-arms tbody tr", has_text="As edited")).to_contain_text("of 4")
