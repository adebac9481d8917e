"""From the list of runs to their comparison and to a report, in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.seeding import Story, events, feed, seed_run, start_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def ids(site: Site) -> list[int]:
    return [
        seed_run(site.engine, Story(name=f"{algorithm} run", algorithm=algorithm, seed=seed))
        for seed, algorithm in enumerate(("opcod", "sdpo"))
    ]


def test_runs_are_chosen_in_their_list_and_the_choice_outlives_the_live_table(page: Page, site: Site, ids: list[int]) -> None:
    story = Story(name="Under way")
    claim = start_run(site.engine, story)
    batch = list(events(story))
    page.goto("/")
    bar = page.locator("[data-pick]")
    expect(bar).to_be_hidden()
    for run_id in ids:
        page.get_by_label(f"Compare run {run_id},").check()
    expect(bar).to_contain_text("2 runs chosen")
    feed(site.engine, claim, batch[:120])
    expect(page.locator(f"#run-{claim.run_id}")).to_contain_text("31 %")
    expect(page.get_by_label(f"Compare run {ids[0]},")).to_be_checked()
    bar.get_by_role("button", name="Compare").click()
    expect(page).to_have_url(f"{site.url}/compare?runs={ids[0]},{ids[1]}")
    expect(page.get_by_role("heading", name="2 runs side by side")).to_be_visible()


def test_curves_are_drawn_hidden_and_smoothed_and_the_address_keeps_it(page: Page, site: Site, ids: list[int]) -> None:
    page.goto(f"/compare?runs={ids[0]},{ids[1]}&measures=train/loss")
    figures = page.locator("[data-curve]")
    expect(figures).to_have_count(2)
    expect(page.locator("[data-curve] canvas")).to_have_count(2)
    page.locator("[data-legend] button", has_text="SDPO").click()
    expect(page.locator("[data-legend] button", has_text="SDPO")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#compare-more g.off").first).to_be_attached()
    page.locator("[data-smooth]").focus()
    page.keyboard.press("End")
    expect(page).to_have_url(f"{site.url}/compare?runs={ids[0]},{ids[1]}&measures=train/loss&hide=group-1&smooth=0.99")
    page.reload()
    expect(page.locator("[data-legend] button", has_text="SDPO")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("[data-smooth]")).to_have_value("0.99")
    page.get_by_role("link", name="Each run").click()
    expect(page.locator("#compare-scores tbody tr")).to_have_count(2)
    page.locator("select[name='y']").select_option("feedback/kept")
    expect(page.locator("#scatter")).to_contain_text("lacks one of the two")


def test_a_comparison_follows_runs_under_way(page: Page, site: Site, ids: list[int]) -> None:
    story = Story(name="Under way too", seed=9)
    batch = list(events(story))
    claim = start_run(site.engine, story)
    feed(site.engine, claim, batch[:5])
    page.goto(f"/compare?runs={ids[0]},{claim.run_id}&by=run")
    line = page.locator(f"#line-run-{claim.run_id}")
    before = line.inner_text()
    feed(site.engine, claim, batch[5:200])
    expect(line).not_to_have_text(before)
    expect(line).to_contain_text("%")


@pytest.mark.parametrize("width", [400, 1280])
def test_comparison_and_report_fit_the_screen_and_the_report_prints_whole(page: Page, site: Site, ids: list[int], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for address in (f"/compare?runs={ids[0]},{ids[1]}", f"/runs/{ids[0]}/report?compare={ids[1]}"):
        page.goto(address)
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    expect(page.locator(".all-settings")).not_to_have_attribute("open", "")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator(".all-settings dl").first).to_be_visible()
    expect(page.locator("#bar")).to_be_hidden()
    expect(page.get_by_role("button", name="Print or save as PDF")).to_be_hidden()
