"""Charts: one zoom, axis and crosshair for all, in the address; every point there, summed up or not; by mouse and by keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from opcod.events import StepFinished
from tests.browser.conftest import Site
from tests.browser.seeding import Story, events, feed, seed_run, start_run

pytestmark = pytest.mark.browser

STEPS, OUTLIER = 3000, 1234


@pytest.fixture(scope="module")
def run_id(site: Site) -> int:
    return seed_run(site.engine, Story(name="Charted"))


@pytest.fixture(scope="module")
def long_run_id(site: Site) -> int:
    claim = start_run(site.engine, Story(name="Long", rounds=1, steps=STEPS))
    losses = [99.0 if step == OUTLIER else 1.0 for step in range(1, STEPS + 1)]
    feed(
        site.engine,
        claim,
        [
            StepFinished(seq=step, round=1, tutee="student1", step=step, metrics={"student1/train/loss": loss})
            for step, loss in enumerate(losses, start=1)
        ],
    )
    return claim.run_id


def opened(page: Page, address: str) -> Locator:
    page.goto(address)
    loss = page.locator("[data-chart='loss']")
    expect(loss.locator("canvas")).to_be_visible()
    loss.scroll_into_view_if_needed()
    return loss


def drag(page: Page, chart: Locator, begin: float, end: float) -> None:
    box = chart.locator(".u-over").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + begin * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (begin + end) / 2 * box["width"], y, steps=3)
    page.mouse.move(box["x"] + end * box["width"], y, steps=3)
    page.mouse.up()


def test_how_charts_are_looked_at_is_in_the_address(page: Page, run_id: int) -> None:
    loss = opened(page, f"/runs/{run_id}")
    reset = page.get_by_role("button", name="Reset zoom")
    expect(reset).to_be_disabled()
    drag(page, loss, 0.25, 0.75)
    expect(page).to_have_url(re.compile(r"from=[\d.]+&to=[\d.]+"))
    page.get_by_label("Clip outliers").check()
    page.get_by_label("Smoothing").fill("0.6")
    loss.hover()
    loss.get_by_role("button", name="log").click()
    loss.locator(".chart-legend button").first.click()
    expect(page).to_have_url(re.compile(r"clip=1.*smooth=0.6.*log=loss.*hide=loss%3Astudent1"))

    page.reload()
    expect(loss.locator("canvas")).to_be_visible()
    expect(reset).to_be_enabled()
    expect(page.get_by_label("Clip outliers")).to_be_checked()
    expect(loss.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")
    expect(loss.locator(".chart-legend button").first).to_have_attribute("aria-pressed", "false")

    page.get_by_role("radio", name="Tokens").check()
    expect(page).to_have_url(re.compile("axis=tokens"))
    loss.locator(".u-over").dblclick()
    expect(reset).to_be_disabled()
    expect(page).not_to_have_url(re.compile("from="))
    box = loss.locator(".u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    expect(loss.locator(".chart-at")).to_contain_text("tokens")
    expect(page.locator("[data-chart='rollouts'] .chart-at")).to_contain_text("tokens")  # the crosshair is everybody's


def test_points_that_are_summed_up_are_never_lost(page: Page, long_run_id: int, tmp_path: Path) -> None:
    loss = opened(page, f"/runs/{long_run_id}")
    expect(page.locator("[data-note]")).to_have_text("4 steps a point, with their range. Zoom in for every step.")
    assert page.evaluate("document.querySelector('[data-chart=loss] .u-over').parentElement.querySelector('canvas') !== null")
    page.goto(f"/runs/{long_run_id}?from=1204&to=1264")
    expect(loss.locator("canvas")).to_be_visible()
    expect(page.locator("[data-note]")).to_be_empty()
    loss.scroll_into_view_if_needed()
    box = loss.locator(".u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + (OUTLIER - 1204) / 60 * box["width"], box["y"] + 30)
    expect(loss.locator(".chart-at")).to_have_text(f"Step 1\u2009{OUTLIER - 1000}")
    expect(loss.locator(".value").first).to_have_text("99")

    with page.expect_download() as told:
        loss.get_by_role("button", name="CSV").click()
    table = told.value.path().read_text().splitlines()
    assert len(table) == STEPS + 1
    assert any("99.0" in line and f",{OUTLIER}," in line for line in table)
    with page.expect_download() as told:
        loss.get_by_role("button", name="PNG").click()
    assert told.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_chart_by_keys_and_in_full(page: Page, run_id: int) -> None:
    loss = opened(page, f"/runs/{run_id}")
    body = loss.locator(".chart-body")
    body.focus()
    body.press("Home")
    expect(page.locator("[data-say]")).to_contain_text("Step 1: student1 0.")
    body.press("ArrowRight")
    expect(page.locator("[data-say]")).to_contain_text("Step 2: student1 0.")
    full = loss.get_by_role("button", name="Full screen: Loss")
    full.press("Enter")
    dialog = page.get_by_role("dialog", name="Chart, full screen")
    expect(dialog.locator("canvas")).to_be_visible()
    expect(page).to_have_url(re.compile("full=loss"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(full).to_be_focused()
    body.focus()
    body.press("Enter")
    expect(page).to_have_url(re.compile(rf"/runs/{run_id}/exchanges\?step=2$"))


def test_a_click_opens_the_exchanges_of_that_place(page: Page, run_id: int) -> None:
    opened(page, f"/runs/{run_id}")
    outcomes = page.locator("[data-chart='outcomes'] .u-over")
    outcomes.scroll_into_view_if_needed()
    box = outcomes.bounding_box()
    assert box
    outcomes.click(position={"x": 0.1 * box["width"], "y": box["height"] - 12})
    expect(page).to_have_url(re.compile(r"/exchanges\?round=1&tutee=student1&outcome=kept"))


def test_an_alert_comes_without_reload_with_what_to_try(page: Page, site: Site) -> None:
    story = Story(name="Going wrong", rounds=1, steps=40)
    batch = list(events(story))
    claim = start_run(site.engine, story)
    feed(site.engine, claim, batch[:200])
    page.goto(f"/runs/{claim.run_id}")
    alerts = page.locator("#run-alerts")
    expect(alerts).to_be_attached()
    expect(alerts.locator(".alert")).to_have_count(0)
    first = 1 + max(event.seq for event in batch)
    kept = [0.7] * 12 + [0.02] * 18
    wrong = [
        StepFinished(seq=first + place, round=1, tutee="student1", step=41 + place, metrics={"student1/feedback/kept_fraction": value})
        for place, value in enumerate(kept)
    ]
    feed(site.engine, claim, wrong)
    expect(alerts).to_contain_text("only 2 % is kept")
    expect(alerts).to_contain_text("What to try:")
    alerts.get_by_role("link", name="Its exchanges").click()
    expect(page).to_have_url(re.compile(r"/exchanges\?round=1&tutee=student1"))
