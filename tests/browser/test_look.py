"""What holds for every page: both themes, explained words, a way past the navigation. For the rest see test_accessibility.py."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.seeding import Story, seed_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run_id(site: Site) -> int:
    return seed_run(site.engine, Story(name="A run with a rather long name that has to fit onto a narrow screen somehow"))


def test_the_theme_is_remembered(page: Page, site: Site) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    toggle = page.locator("[data-theme-toggle]")
    toggle.click()
    toggle.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto("/docs/method")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_words_are_explained_on_hover_and_focus_and_lead_to_the_method(page: Page, site: Site, run_id: int) -> None:
    page.goto(f"/runs/{run_id}")
    word = page.locator("#run-head .word", has_text="Round").first
    word.hover()
    expect(page.locator(".tip")).to_contain_text("one phase for each student")
    page.mouse.move(0, 0)
    expect(page.locator(".tip")).to_be_hidden()
    word.focus()
    expect(page.locator(".tip")).to_be_visible()
    word.press("Enter")
    expect(page).to_have_url(f"{site.url}/docs/method#word-round")
    expect(page.locator("#word-round")).to_be_visible()


def test_the_plane_s_points_speak_to_keyboard_and_mouse(page: Page, site: Site, run_id: int) -> None:
    page.goto(f"/runs/{run_id}")
    point = page.locator(".pareto .at").first
    point.focus()
    expect(page.locator(".tip")).to_contain_text("before training")


def skip(page: Page) -> None:
    """Past the navigation, by the first link of each page."""
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")


def tab_to(page: Page, wanted: Locator) -> None:
    element = wanted.element_handle()
    for _ in range(90):
        if element.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not get to {wanted}")


def test_everything_is_done_without_a_mouse(page: Page, site: Site, run_id: int) -> None:
    keys = page.keyboard
    page.goto("/experiments/new?preset=tiny")
    skip(page)
    tab_to(page, page.get_by_label("Name", exact=True).first)
    keys.press("ControlOrMeta+a")
    keys.type("Launched by keys")
    expect(page.locator("#launch-check")).to_contain_text("are in order")
    tab_to(page, page.get_by_role("button", name="Launch"))
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Launched by keys")).to_be_visible()

    page.goto(f"/runs/{run_id}")
    skip(page)
    tab_to(page, page.get_by_role("link", name="Exchanges", exact=True))
    keys.press("Enter")
    expect(page.locator("#inspector")).to_be_visible()
    skip(page)
    tab_to(page, page.locator(".facet a", has_text="Wrong"))
    keys.press("Enter")
    page.wait_for_url("**correct=false**")
    keys.press("j")
    keys.press("Enter")
    expect(page).to_have_url(re.compile(r"/exchanges/\d+\?correct=false"))

    lens = page.locator("token-lens")
    expect(lens.get_by_role("listbox")).to_be_visible()
    skip(page)
    tab_to(page, lens.get_by_role("radio", checked=True))
    keys.press("ArrowRight")
    expect(lens.get_by_role("radio", checked=True)).to_be_focused()
    keys.press("Tab")
    for key in ("End", "ArrowLeft", "ArrowLeft"):
        keys.press(key)
    expect(lens.locator(".lens-table tbody tr")).not_to_have_count(0)
    tab_to(page, page.get_by_label("Feedback to show"))
    keys.type("iron is 8 .")
    tab_to(page, page.get_by_role("button", name="Ask again"))
    keys.press("Enter")
    expect(page.locator(".replay")).to_contain_text("Waiting")

    page.goto(f"/runs/{run_id}/report")
    skip(page)
    tab_to(page, page.get_by_role("link", name="Markdown"))
    with page.expect_download() as waiting:
        keys.press("Enter")
    assert waiting.value.suggested_filename.endswith(".md")


def test_motion_is_left_out_when_asked(browser: Browser, site: Site) -> None:
    context = browser.new_context(reduced_motion="reduce", base_url=site.url)
    page = context.new_page()
    page.goto("/")
    assert page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
    durations = page.evaluate("[...document.querySelectorAll('*')].map(e => getComputedStyle(e).animationName).filter(n => n !== 'none')")
    assert durations == []
    context.close()


def test_everything_comes_from_the_studio_itself(page: Page, site: Site, run_id: int) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for address in ("/", f"/runs/{run_id}", "/experiments/new", "/docs/method"):
        page.goto(address)
        page.wait_for_load_state("load")
    assert asked
    assert all(address.startswith(site.url) for address in asked)
