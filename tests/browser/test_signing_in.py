"""A studio where people sign in, in a real browser: which sends origins, cookies and policies as no test client does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from app.access import links
from app.db import writing
from tests.browser.conftest import Site
from tests.browser.seeding import Story, seed_run, start_run
from tests.people import PASSWORD, add_person

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"), auth="password")
    yield site
    site.stop()


@pytest.fixture(scope="module")
def first_link(site: Site) -> str:
    with writing(site.engine) as session:
        path = links.make_for_first_admin(session)
    assert path
    return path


@pytest.fixture(scope="module")
def run_id(site: Site) -> int:
    return seed_run(site.engine, Story())


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def come_in(page: Page, site: Site, name: str) -> None:
    page.goto("/login")
    sign_in(page, name)
    page.wait_for_url(f"{site.url}/")


def test_from_the_first_link_to_a_run_and_out_again(page: Page, site: Site, first_link: str, expect_console: list[str]) -> None:
    page.goto(first_link)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    page.wait_for_url(f"{site.url}/")

    page.get_by_role("link", name="New experiment").first.click()
    page.locator(".preset", has_text="Tiny").click()
    expect(page.locator("#launch-check")).to_contain_text("are in order")
    page.locator("#launch-button").click()
    page.wait_for_url(re.compile(r"/runs/\d+$"))
    expect(page.locator("#run-filing")).to_contain_text("launched by ada")
    page.locator("#run-head").get_by_role("button", name="Stop").click()  # by htmx, which sends the token in a header
    expect(page.locator("#run-head .chip").first).to_have_text("Stopped")
    here = page.url

    expect_console.append("401")  # of the page's live parts, if they ask while the session ends
    page.locator("[data-menu] summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{site.url}/login")
    page.go_back()
    page.wait_for_url(re.compile("/login"))  # the page that was left is kept nowhere
    page.goto(here)
    page.wait_for_url(re.compile(r"/login\?next=/runs/\d+$"))
    sign_in(page, "ada", "not the password")
    expect(page.get_by_role("alert")).to_contain_text("do not fit")
    sign_in(page, "ada")
    page.wait_for_url(here)


def test_what_a_page_is_refused_while_its_reader_signs_out_leads_nowhere_else(page: Page, site: Site, expect_console: list[str]) -> None:
    add_person(site.engine, "liv", "member")
    expect_console.append("401")
    come_in(page, site, "liv")
    page.evaluate("document.addEventListener('submit', (event) => event.preventDefault())")  # the form is under way for ever
    page.locator("[data-menu] summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.context.clear_cookies()
    with page.expect_response("**/runs/list") as refused:
        page.evaluate("htmx.ajax('GET', '/runs/list', {target: 'main'})")
    assert refused.value.status == 401
    assert page.evaluate("document.readyState") == "complete"
    assert page.url == f"{site.url}/"


def test_a_page_whose_session_ended_goes_to_the_login_and_back(
    page: Page, site: Site, first_link: str, run_id: int, expect_console: list[str]
) -> None:
    add_person(site.engine, "mia", "member")
    expect_console += ["401", "403", "Failed to load resource", "EventSource"]
    page.goto("/login")
    sign_in(page, "mia")
    page.goto("/experiments/new?preset=tiny")
    expect(page.locator("#launch-check")).to_contain_text("are in order")
    page.context.clear_cookies()
    page.locator("#in-name").fill("typed too late")
    page.wait_for_url(re.compile(r"/login\?next=/experiments/new"))
    sign_in(page, "mia")
    page.wait_for_url(re.compile(r"/experiments/new\?preset=tiny"))


def test_a_form_without_the_pages_token_changes_nothing(page: Page, site: Site, expect_console: list[str]) -> None:
    add_person(site.engine, "max", "member")
    expect_console.append("403")
    come_in(page, site, "max")
    status = page.evaluate(
        "fetch('/experiments', {method: 'POST', body: new URLSearchParams({tab: 'preset', preset: 'tiny'})}).then((r) => r.status)"
    )
    assert status == 403
    page.goto("/settings/tokens")
    page.evaluate("document.querySelector('#settings-tokens [name=csrf]').value = '0'.repeat(64)")
    page.get_by_label("What it is for").fill("stolen")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#error")).to_contain_text("not from a page that was opened in this browser")
    page.goto("/settings/tokens")
    expect(page.locator("#settings-tokens")).to_contain_text("None yet")


def test_another_sites_page_cannot_act_in_ones_name(page: Page, site: Site) -> None:
    add_person(site.engine, "tom", "member")
    come_in(page, site, "tom")
    form = f"<form method='post' action='{site.url}/logout'></form><script>document.forms[0].submit()</script>"
    page.context.route("http://evil.example/**", lambda route: route.fulfill(content_type="text/html", body=form))
    other = page.context.new_page()
    other.goto("http://evil.example/")
    expect(other.locator("body")).to_contain_text("Requests from http://evil.example are refused")
    page.goto("/settings")
    expect(page.get_by_role("heading", name="tom")).to_be_visible()


def test_a_viewer_is_shown_nothing_to_press_that_is_refused(page: Page, site: Site, run_id: int) -> None:
    add_person(site.engine, "vic", "viewer")
    held = start_run(site.engine, Story(name="under way")).run_id
    come_in(page, site, "vic")
    for address in ("/", f"/runs/{held}", f"/runs/{run_id}", "/queue", "/storage", "/sweeps"):
        page.goto(address)
        expect(page.locator("main")).to_be_visible()
        assert page.locator("main form[method=post]").count() == 0, address
        assert page.locator("a[href^='/experiments/new'], a[href='/sweeps/new']").count() == 0, address


def test_every_page_obeys_the_policy_and_fits(page: Page, site: Site, run_id: int) -> None:
    """The page fixture fails on any console message, and what the policy refuses is one. Narrow screens: test_accessibility."""
    add_person(site.engine, "root", "admin")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.add_init_script(
        "window.refused = [];"
        "document.addEventListener('securitypolicyviolation', (e) => refused.push(`${e.violatedDirective} ${e.blockedURI}`))"
    )
    come_in(page, site, "root")
    page.goto("/settings/tokens")
    page.get_by_label("What it is for").fill("a token with quite a long purpose, told in many words")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#once")).to_have_value(re.compile(r"^opcod_[\w-]{43}$"))
    tabs = ("/settings", "/settings/tokens", "/settings/webhooks", "/settings/people", "/settings/audit", "/settings/studio")
    for address in (
        *tabs,
        "/",
        f"/runs/{run_id}",
        f"/runs/{run_id}/exchanges",
        "/exchanges/1",
        "/experiments/new",
        "/queue",
        "/workers",
        "/docs/method",
    ):
        page.goto(address)
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280, address
        assert page.evaluate("refused") == [], address
    page.goto(f"/runs/{run_id}")
    expect(page.locator("[data-chart='loss'] canvas")).to_be_visible()  # drawn, with styles set by script
    assert page.evaluate("refused") == []
