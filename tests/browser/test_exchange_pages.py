"""The exchanges: filtered in the address, walked by keys, shown as they are and never run."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import col, select

from app.db import reading
from app.tables import ExchangeRow
from tests.browser.conftest import Site
from tests.browser.seeding import HOSTILE, Story, seed_run

pytestmark = pytest.mark.browser


def exchange_ids(site: Site, run_id: int, outcome: str | None = None) -> list[int]:
    wanted = select(ExchangeRow.id).where(col(ExchangeRow.run_id) == run_id).order_by(col(ExchangeRow.id))
    if outcome:
        wanted = wanted.where(col(ExchangeRow.outcome) == outcome)
    with reading(site.engine) as session:
        return [key for key in session.exec(wanted).all() if key is not None]


@pytest.fixture(scope="module")
def run_id(site: Site) -> int:
    return seed_run(site.engine, Story(name="Talkative"))


def test_filters_live_in_the_address(page: Page, site: Site, run_id: int) -> None:
    page.goto(f"/runs/{run_id}/exchanges")
    page.get_by_label("Feedback").select_option("no_match")
    expect(page.locator("[data-outcome]").first).to_have_text("No match")
    assert set(page.locator("#exchange-table [data-outcome]").all_inner_texts()) == {"No match"}
    assert "outcome=no_match" in page.url
    page.reload()
    expect(page.get_by_label("Feedback")).to_have_value("no_match")
    page.goto(f"/runs/{run_id}/exchanges?step=99999")
    expect(page.get_by_text("No exchange fits this filter")).to_be_visible()


def test_pages_join_without_a_gap(page: Page, site: Site, run_id: int) -> None:
    wanted = exchange_ids(site, run_id)
    page.goto(f"/runs/{run_id}/exchanges")
    seen: list[int] = []
    for _ in range(20):
        seen += [int(str(link.get_attribute("href")).rsplit("/", 1)[1]) for link in page.locator("[data-row-link]").all()]
        following = page.get_by_role("link", name="Next", exact=True)
        if not following.count():
            break
        following.click()
    assert seen == wanted
    page.get_by_role("link", name="First").click()
    page.get_by_role("link", name="Latest").click()
    expect(page.locator("[data-row-link]").last).to_have_attribute("href", f"/exchanges/{wanted[-1]}")


def test_the_keyboard_walks_list_exchanges_and_siblings(page: Page, site: Site, run_id: int) -> None:
    wanted = exchange_ids(site, run_id, "kept")
    page.goto(f"/runs/{run_id}/exchanges?outcome=kept")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.url}/exchanges/{wanted[1]}?outcome=kept")
    page.keyboard.press("j")
    expect(page).to_have_url(f"{site.url}/exchanges/{wanted[2]}?outcome=kept")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{site.url}/exchanges/{wanted[1]}?outcome=kept")
    first = exchange_ids(site, run_id)[0]
    page.goto(f"/exchanges/{first}")
    page.keyboard.press("l")
    expect(page).to_have_url(f"{site.url}/exchanges/{first + 1}")
    page.keyboard.press("h")
    expect(page).to_have_url(f"{site.url}/exchanges/{first}")


def test_keys_are_off_while_typing(page: Page, site: Site, run_id: int) -> None:
    page.goto(f"/runs/{run_id}/exchanges")
    page.get_by_label("Step").fill("")
    page.get_by_label("Step").press_sequentially("jk")
    expect(page.get_by_label("Step")).to_have_value("jk")
    expect(page.get_by_label("Step")).to_be_focused()


def test_kept_feedback_shows_its_anchor_what_was_cut_and_the_prompt(page: Page, site: Site, run_id: int) -> None:
    page.goto(f"/exchanges/{exchange_ids(site, run_id, 'kept')[0]}")
    expect(page.locator("mark.match")).to_have_text("density")
    expect(page.locator("mark.concept")).to_have_text("density")
    expect(page.locator("del")).to_have_text("The correct option is 11.")
    expect(page.get_by_text("the self-teacher was shown this feedback")).to_be_visible()
    prompt = page.locator("section", has=page.get_by_role("heading", name="prompt")).locator(".text")
    expect(prompt).to_contain_text("Feedback:")
    expect(prompt).not_to_contain_text("The correct option is 11.")
    expect(page.locator(".siblings a")).to_have_count(4)


@pytest.mark.parametrize(
    ("outcome", "reason"), [("no_concept_tag", "no well-formed <concept> tag"), ("empty", "nothing in it"), ("fb_none", "returned no text")]
)
def test_dropped_feedback_says_why(page: Page, site: Site, run_id: int, outcome: str, reason: str) -> None:
    page.goto(f"/exchanges/{exchange_ids(site, run_id, outcome)[0]}")
    expect(page.get_by_text(reason)).to_be_visible()
    expect(page.locator("mark.match")).to_have_count(0)


def test_long_texts_are_cut_and_shown_on_request(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="Long", text="\n" + "lorem ipsum " * 900 + "END", rounds=1, steps=1))
    page.goto(f"/exchanges/{exchange_ids(site, run_id)[0]}")
    expect(page.locator("#exchange")).not_to_contain_text("END")
    page.get_by_role("link", name="Show all").first.click()
    expect(page.locator("#exchange")).to_contain_text("END")


def test_hostile_texts_do_nothing(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="<script>window.hacked=1</script> \"'><b>bold</b>", text=HOSTILE, rounds=1, steps=2))
    shown = exchange_ids(site, run_id)
    for address in (
        "/",
        f"/runs/{run_id}",
        f"/runs/{run_id}/exchanges",
        f"/exchanges/{shown[0]}",
        f"/exchanges/{shown[-1]}",
        f"/experiments/new?from={run_id}",
    ):
        page.goto(address)
        page.wait_for_load_state("load")
        assert page.evaluate("window.hacked") is None
        assert page.locator("main b, main img").count() == 0
        assert not {"\u202e", "\u0007"} & set(page.content())
    page.goto(f"/exchanges/{shown[0]}")
    expect(page.locator("#exchange")).to_contain_text("⟨U+202E⟩gnirts")
    expect(page.locator("#exchange")).to_contain_text("{{ 7 * 7 }}")
