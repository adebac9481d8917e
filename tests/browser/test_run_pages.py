"""Runs list and run page: live without reload, the same after one, and stoppable."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from app.db import writing
from app.lifecycle import runs
from app.lifecycle.runs import RunError
from tests.browser.conftest import Site
from tests.browser.seeding import Story, end_run, events, feed, queue_run, seed_run, start_run
from tests.integration.studio import await_value

pytestmark = pytest.mark.browser


def test_an_empty_studio_offers_the_demo(page: Page, site: Site) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    expect(page.get_by_role("button", name="Launch the demo")).to_be_enabled()
    expect(page.locator("#runs-filter")).to_be_hidden()


def test_the_list_moves_without_reload(page: Page, site: Site) -> None:
    page.goto("/")
    claim = start_run(site.engine, Story(name="Seen from the list"))
    row = page.locator("tr", has_text="Seen from the list")
    expect(row.get_by_text("Running")).to_be_visible()
    feed(site.engine, claim, list(events(Story(name="Seen from the list"))))
    end_run(site.engine, claim, "completed")
    expect(row.get_by_text("Completed")).to_be_visible()
    expect(row.get_by_text("Mutual", exact=True)).to_be_visible()
    expect(row.locator(".scores .up").first).to_contain_text("+")


def test_ages_go_on_while_the_page_stands(page: Page, site: Site) -> None:
    page.clock.install()
    run_id = queue_run(site.engine, Story(name="Left open"))
    page.goto(f"/runs/{run_id}")
    age = page.locator("#run-head time").first
    expect(age).to_have_text("just now")

    def hours_old() -> bool:
        page.clock.fast_forward("01:05:00")
        return re.fullmatch(r"\d+ h( \d+ min)? ago", age.inner_text()) is not None

    # A live part that comes just now is as old as the server says: the browser's clock is put on until it stands.
    await_value(hours_old, seconds=60, what="an age of hours")
    expect(age).to_have_attribute("title", re.compile(r" UTC$"))


def test_the_list_is_filtered_by_status_and_name(page: Page, site: Site) -> None:
    seed_run(site.engine, Story(name="One that failed"), "failed", upto=5, error=RunError("model", "No weights.", "Bring some."))
    queue_run(site.engine, Story(name="100% patience"))
    page.goto("/")
    page.get_by_label("Status").select_option("failed")
    expect(page.locator("tr[data-href]")).to_have_count(1)
    expect(page).to_have_url(f"{site.url}/?status=failed")
    page.goto("/?q=100%25")
    expect(page.locator("tr[data-href]")).to_have_count(1)
    page.goto("/?q=nobody")
    expect(page.get_by_text("No run fits this filter")).to_be_visible()


def test_charts_plane_and_verdict_move_without_reload_and_stay_after_one(page: Page, site: Site) -> None:
    story = Story(name="Watched")
    batch = list(events(story))
    claim = start_run(site.engine, story)
    feed(site.engine, claim, batch[:40])
    page.goto(f"/runs/{claim.run_id}")
    charts = page.locator("#charts")
    loss = page.locator("[data-chart='loss']")
    expect(loss.locator("canvas")).to_be_visible()
    before = loss.locator(".value").first.inner_text()
    cursor = charts.get_attribute("data-cursor")
    top = page.evaluate("document.querySelector('#charts').getBoundingClientRect().top")
    page.evaluate("window.stayed = true")

    feed(site.engine, claim, batch[40:200])
    expect(loss.locator(".value").first).not_to_have_text(before)
    expect(charts).not_to_have_attribute("data-cursor", str(cursor))
    expect(page.locator("#run-head")).to_contain_text("Tutee")
    expect(page.locator(".pareto circle")).to_have_count(2)
    assert page.evaluate("document.querySelector('#charts').getBoundingClientRect().top") == top
    expect(page.locator("#run-verdict .verdict-word")).to_have_text("Not yet")

    feed(site.engine, claim, batch[200:])
    end_run(site.engine, claim, "completed")
    expect(page.locator("#run-verdict .verdict-word")).to_have_text("Yes")
    expect(page.get_by_role("heading", name="Final scores")).to_be_visible()
    expect(page.locator(".pareto circle")).to_have_count(story.rounds + 1)
    expect(page.locator("#run-timeline li")).to_have_count(story.rounds)
    assert page.evaluate("window.stayed")

    shown = page.locator("#run-scores").inner_text()
    values = page.locator("[data-chart='accuracy'] .value").all_inner_texts()
    page.reload()
    expect(page.locator("[data-chart='accuracy'] .value").first).to_have_text(values[0])
    assert page.locator("#run-scores").inner_text() == shown
    assert page.locator("[data-chart='accuracy'] .value").all_inner_texts() == values


def test_a_page_that_lost_the_server_says_so_and_catches_up(page: Page, site: Site, expect_console: list[str]) -> None:
    expect_console += ["ERR_", "Failed to load resource", "[object Event]", "htmx:sendError"]
    story = Story(name="Interrupted")
    batch = list(events(story))
    claim = start_run(site.engine, story)
    feed(site.engine, claim, batch[:30])
    page.goto(f"/runs/{claim.run_id}")
    expect(page.locator("[data-chart='loss'] canvas")).to_be_visible()
    site.stop()
    expect(page.locator("#offline")).to_be_visible()
    site.start()
    feed(site.engine, claim, batch[30:])
    end_run(site.engine, claim, "completed")
    expect(page.locator("#offline")).to_be_hidden(timeout=90_000)
    expect(page.locator("#run-verdict .verdict-word")).to_have_text("Yes", timeout=90_000)
    expect(page.locator("#run-head")).to_contain_text("Step 36 of 36")
    latest = page.locator("[data-chart='loss'] .value")
    reloaded = page.context.new_page()
    reloaded.goto(page.url)
    expect(reloaded.locator("#run-verdict .verdict-word")).to_have_text("Yes")
    expect(reloaded.locator("[data-chart='loss'] .value")).to_have_text([re.compile(r"\d")] * 2)
    expect(latest).to_have_text(reloaded.locator("[data-chart='loss'] .value").all_inner_texts())
    reloaded.close()


def test_a_gate_that_shut_and_who_taught_whom(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="Gated", shut_in_round=2))
    page.goto(f"/runs/{run_id}")
    second = page.locator("#round-2")
    expect(second).to_contain_text("gate shut")
    expect(second).to_contain_text("student1 learns from its own solutions")
    expect(page.locator("#round-1")).to_contain_text("student2 tutors student1")


def test_a_legend_hides_a_series(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="Legend"))
    page.goto(f"/runs/{run_id}")
    button = page.locator("[data-chart='loss'] .chart-legend button").first
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.locator("#more-charts summary").click()
    expect(page.locator("[data-more] figure")).not_to_have_count(0)
    expect(page.locator("[data-more] canvas").first).to_be_visible()


def test_stop_resume_and_a_refusal_that_explains(page: Page, site: Site, expect_console: list[str]) -> None:
    expect_console.append("409")
    claim = start_run(site.engine, Story(name="Stoppable"))
    page.goto(f"/runs/{claim.run_id}")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#run-head .chip").first).to_have_text("Stopping")
    end_run(site.engine, claim, "halted")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#run-head .chip").first).to_have_text("Queued")
    expect(page.locator("#run-head")).to_contain_text("in the queue")

    page.route("**/live*", lambda route: route.abort())  # a page that has not heard yet
    expect_console += ["ERR_FAILED", "[object Event]"]
    page.reload()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    with writing(site.engine) as session:
        runs.request_stop(session, claim.run_id)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").filter(has_text="is stopped; it cannot be stopped")).to_be_visible()
    expect(page.locator("#run-head .chip").first).to_have_text("Stopped")


def test_a_failed_run_says_what_to_do_and_shows_its_log(page: Page, site: Site) -> None:
    error = RunError("resource", "The GPU's memory ran out.", "Lower `compute.micro_batch_tokens`, then resume.")
    run_id = seed_run(site.engine, Story(name="Failed"), "failed", upto=20, error=error)
    page.goto(f"/runs/{run_id}")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The GPU's memory ran out.")
    expect(alert.locator("code")).to_have_text("compute.micro_batch_tokens")
    expect(page.get_by_role("log")).to_be_visible()


def test_three_students_and_three_domains_get_a_plane_a_pair(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="Three", students=("a", "b", "c"), domains=("x", "y", "z")))
    page.goto(f"/runs/{run_id}")
    expect(page.locator(".pareto")).to_have_count(3)
    expect(page.locator("#run-scores tbody")).to_have_count(3)


def test_errors_have_the_studio_s_look(page: Page, site: Site, expect_console: list[str]) -> None:
    expect_console.append("404")
    for address in ("/runs/424242", "/exchanges/424242", "/runs/abc", "/nowhere", "/experiments/new?from=424242"):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 404
        expect(page.get_by_role("heading", name="Not here")).to_be_visible()
        expect(page.get_by_role("link", name="OPCoD Studio: all runs")).to_be_visible()
