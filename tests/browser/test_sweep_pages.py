"""A sweep from the form to its table: points as one types, faults in place, one press to stop them all."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

pytestmark = pytest.mark.browser


def test_a_sweep_from_the_form_to_its_table(page: Page, site: Site, expect_console: list[str]) -> None:
    expect_console.append("422")  # the form without a name
    page.goto("/sweeps")
    page.get_by_role("link", name="New sweep").first.click()
    expect(page.locator("#sweep-check")).to_contain_text("4 points")  # the four gates, before anything is typed
    page.get_by_label("Preset").select_option("tiny")
    page.get_by_label("A grid of your own").check()
    page.locator("#in-grid").fill("method.gate.threshold: [0.1, -2]")
    expect(page.locator("#sweep-check")).to_contain_text("points.1.method.gate.threshold")
    page.locator("#in-grid").fill("method.gate.threshold: [0.1, 0.2, 0.4]")
    expect(page.locator("#sweep-check")).to_contain_text("3 points")
    page.get_by_role("button", name="Launch the sweep").click()
    expect(page.locator("#sweep-check")).to_contain_text("has no name")
    page.get_by_role("textbox", name="Name").fill("Which threshold?")
    page.get_by_role("button", name="Launch the sweep").click()
    expect(page).to_have_url(re.compile(r"/sweeps/\d+$"))
    expect(page.locator("#sweep .points tbody tr")).to_have_count(3)
    expect(page.locator("#point-3")).to_contain_text("0.4")
    page.get_by_role("button", name="Stop all").click()
    expect(page.locator("#sweep")).to_contain_text("3 stopped")
    expect(page.get_by_role("button", name="Stop all")).to_have_count(0)
    page.get_by_role("link", name="Run 1").click()
    page.get_by_role("link", name="Sweep 1").click()
    expect(page.get_by_role("heading", name="Which threshold?")).to_be_visible()
