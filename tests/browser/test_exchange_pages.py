"""The exchanges: filtered in the address, walked by keys, shown as they are and never run."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlmodel import col, select

from app.db import reading
from app.records.exchange_search import search_of
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


@pytest.fixture(scope="module")
def indexed(site: Site, run_id: int) -> int:
    """The same run, once the search knows it."""
    while search_of(site.engine).update():
        pass
    return run_id


def facet(page: Page, heading: str) -> Locator:
    return page.locator(".facet", has=page.get_by_role("heading", name=heading, exact=True))


def test_filters_live_in_the_address_with_their_counts(page: Page, site: Site, run_id: int) -> None:
    wanted = exchange_ids(site, run_id, "no_match")
    page.goto(f"/runs/{run_id}/exchanges")
    choice = facet(page, "Feedback").get_by_role("link", name="No match")
    expect(choice.locator(".count")).to_have_text(str(len(wanted)))
    choice.click()
    expect(page.locator("#inspector-total strong")).to_have_text(str(len(wanted)))
    assert set(page.locator("#exchange-list [data-outcome]").evaluate_all("all => all.map(one => one.dataset.outcome)")) == {"no_match"}
    assert "outcome=no_match" in page.url
    page.reload()
    page.get_by_role("link", name="Take off the filter Feedback: No match").click()
    expect(page).to_have_url(f"{site.url}/runs/{run_id}/exchanges")
    page.goto(f"/runs/{run_id}/exchanges?step=99999")
    expect(page.get_by_text("No exchange fits this filter")).to_be_visible()


def test_the_list_goes_on_while_one_scrolls_and_holds_few_rows(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="Many", rounds=4, steps=10, questions=4, rollouts=4))
    wanted = exchange_ids(site, run_id)
    assert len(wanted) > 1000
    page.goto(f"/runs/{run_id}/exchanges")
    seen: list[int] = []
    most = 0
    while not seen or seen[-1] != wanted[-1]:
        ids = [int(key) for key in page.locator(".entry").evaluate_all("all => all.map(one => one.dataset.id)")]
        most = max(most, len(ids))
        assert ids == list(range(ids[0], ids[-1] + 1))
        assert not seen or ids[0] <= seen[-1] + 1
        seen += [key for key in ids if not seen or key > seen[-1]]
        page.locator("#exchange-list").evaluate("box => box.scrollTo(0, box.scrollHeight)")
        if ids[-1] != wanted[-1]:
            page.wait_for_function("last => Number([...document.querySelectorAll('.entry')].at(-1).dataset.id) > last", arg=ids[-1])
    assert seen == wanted
    assert most <= 480
    for _ in range(100):
        page.locator("#exchange-list").evaluate("box => box.scrollTo(0, 0)")
        if page.locator(f".entry[data-id='{wanted[0]}']").count():
            break
        page.wait_for_timeout(30)
    expect(page.locator(".entry").first).to_have_attribute("data-id", str(wanted[0]))


def test_the_keyboard_walks_the_inspector(page: Page, site: Site, run_id: int) -> None:
    wanted = exchange_ids(site, run_id, "kept")
    page.goto(f"/runs/{run_id}/exchanges?outcome=kept")
    current = page.locator(".entry:has([aria-current])")
    article = page.locator("#exchange")
    expect(current).to_have_attribute("data-id", str(wanted[0]))
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(article).to_have_attribute("data-id", str(wanted[2]))
    page.keyboard.press("k")
    expect(article).to_have_attribute("data-id", str(wanted[1]))
    expect(page).to_have_url(f"{site.url}/runs/{run_id}/exchanges?outcome=kept&exchange={wanted[1]}")
    page.reload()
    expect(article).to_have_attribute("data-id", str(wanted[1]))
    expect(current).to_have_attribute("data-id", str(wanted[1]))
    page.keyboard.press("Shift+G")
    expect(article).to_have_attribute("data-id", str(wanted[-1]))
    page.keyboard.press("g")
    page.keyboard.press("g")
    expect(article).to_have_attribute("data-id", str(wanted[0]))
    page.keyboard.press("l")
    expect(article).to_have_attribute("data-id", str(wanted[0] + 1))
    page.keyboard.press("h")
    expect(article).to_have_attribute("data-id", str(wanted[0]))
    step = page.locator(".question-group").nth(1).locator(".entry").first.get_attribute("data-id")
    page.keyboard.press("n")
    expect(article).to_have_attribute("data-id", str(step))
    page.keyboard.press("p")
    expect(article).to_have_attribute("data-id", str(wanted[0]))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("jkgGs?")
    expect(page.get_by_role("searchbox")).to_have_value("jkgGs?")
    expect(article).to_have_attribute("data-id", str(wanted[0]))


def test_the_keyboard_walks_exchanges_on_pages_of_their_own(page: Page, site: Site, run_id: int) -> None:
    wanted = exchange_ids(site, run_id, "kept")
    page.goto(f"/exchanges/{wanted[1]}?outcome=kept")
    page.keyboard.press("j")
    expect(page).to_have_url(f"{site.url}/exchanges/{wanted[2]}?outcome=kept")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{site.url}/exchanges/{wanted[1]}?outcome=kept")


def test_words_are_found_in_question_rollout_and_feedback_and_marked(page: Page, site: Site, indexed: int) -> None:
    page.goto(f"/runs/{indexed}/exchanges")
    page.get_by_role("searchbox").fill('"sign of the step" denser')
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("#exchange-list mark.hit").first).to_be_visible()
    expect(page.locator("#exchange mark.hit", has_text="sign of the step")).to_be_visible()
    page.get_by_role("searchbox").fill("zebra")
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_text("No exchange fits this filter")).to_be_visible()


def test_stars_labels_comments_and_views_are_kept(page: Page, site: Site, indexed: int) -> None:
    first = exchange_ids(site, indexed)[0]
    page.goto(f"/runs/{indexed}/exchanges")
    page.keyboard.press("s")
    expect(page.locator(f".entry[data-id='{first}'] .star")).to_be_visible()
    page.get_by_label("New label").fill("odd")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#exchange-notes")).to_contain_text("odd")
    page.get_by_label("New comment").fill("Look <b>here</b>")
    page.get_by_role("button", name="Comment").click()
    expect(page.locator("#exchange-notes .comments")).to_contain_text("Look <b>here</b>")
    page.goto(f"/runs/{indexed}/exchanges")
    facet(page, "Labels").get_by_role("link", name="Starred").click()
    expect(page.locator(".entry")).to_have_count(1)
    page.get_by_label("Name of the view").fill("the stars")
    page.get_by_role("button", name="Save").click()
    page.goto(f"/runs/{indexed}/exchanges")
    page.get_by_role("link", name="the stars").click()
    expect(page.locator(".entry")).to_have_count(1)
    page.get_by_role("button", name="Take away the view the stars").click()
    expect(page.get_by_role("link", name="the stars")).to_have_count(0)


def test_picked_exchanges_are_exported(page: Page, site: Site, run_id: int) -> None:
    wanted = exchange_ids(site, run_id)
    page.goto(f"/runs/{run_id}/exchanges")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("2 picked")).to_be_visible()
    with page.expect_download() as waiting:
        page.locator("#picked-export").click()
    lines = waiting.value.path().read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [wanted[0], wanted[2]]
    with page.expect_download() as waiting:
        page.get_by_role("link", name="With tokens").click()
    texts = [json.loads(line)["tokens"]["texts"] for line in waiting.value.path().read_text("utf-8").splitlines()]
    assert [text[-1] for text in texts] == ["<|im_end|>"] * 2


def test_two_rollouts_stand_side_by_side(page: Page, site: Site, run_id: int) -> None:
    with reading(site.engine) as session:
        rows = session.exec(select(ExchangeRow).where(col(ExchangeRow.run_id) == run_id)).all()
    right, wrong = next(
        (one, other)
        for one in rows
        for other in rows
        if one.correct and not other.correct and (one.tutee, one.step, one.group) == (other.tutee, other.step, other.group)
    )
    page.goto(f"/runs/{run_id}/exchanges?exchange={right.id}")
    page.get_by_label("Side by side with").select_option(str(wrong.id))
    expect(page.locator("#side-by-side del.lost").first).to_have_text("11")
    expect(page.locator("#side-by-side ins.new").first).to_have_text("5")
    assert f"beside={wrong.id}" in page.url


def test_markdown_and_formulas_are_rendered_and_a_key_shows_the_raw_text(page: Page, site: Site) -> None:
    text = "\n\n**Note** that $\\rho = \\frac{m}{V}$; the solvent is C*C(=O)O*C.\n\n| a | b |\n|---|--:|\n| 1 | 2 |"
    run_id = seed_run(site.engine, Story(name="Marked up", text=text, rounds=1, steps=1))
    page.goto(f"/exchanges/{exchange_ids(site, run_id)[0]}")
    question = page.locator("section", has=page.get_by_role("heading", name="Question", exact=True)).locator(".text").first
    expect(question.locator("strong")).to_have_text("Note")
    expect(question.locator("math mfrac")).to_be_visible()
    expect(question.locator("td").nth(1)).to_have_text("2")
    expect(question).to_contain_text("C*C(=O)O*C.")
    page.keyboard.press("r")
    expect(question).to_contain_text("**Note** that $\\rho")
    assert "text=raw" in page.url


def test_kept_feedback_shows_its_anchor_what_was_cut_and_the_prompt(page: Page, site: Site, run_id: int) -> None:
    page.goto(f"/exchanges/{exchange_ids(site, run_id, 'kept')[0]}")
    expect(page.locator("mark.match")).to_have_text("density")
    expect(page.locator("mark.concept")).to_have_text("density")
    expect(page.locator("del.cut")).to_have_text("The correct option is 11.")
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
    whole = page.locator("#exchange .text", has_text="END")  # the token lens and the form to edit feedback have all of it
    expect(page.get_by_role("listbox", name="Tokens of the rollout")).to_contain_text("END")
    expect(whole).to_have_count(0)
    page.get_by_role("link", name="Show all").first.click()
    expect(whole).not_to_have_count(0)


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


def test_the_lens_leads_to_the_words_that_were_taught(page: Page, site: Site, run_id: int) -> None:
    (first, *_) = exchange_ids(site, run_id, "kept")
    page.goto(f"/exchanges/{first}")
    tokens = page.get_by_role("listbox", name="Tokens of the rollout")
    expect(tokens.locator("[data-bin=s5]")).not_to_have_count(0)
    strongest = page.locator(".lens-strongest button").first
    word = strongest.locator("bdi").inner_text()
    strongest.click()
    expect(tokens).to_be_focused()
    expect(tokens.locator("[aria-selected]")).to_contain_text(word)
    expect(page.locator(".lens-detail")).to_contain_text(word)
    expect(page.locator(".lens-table tbody tr")).to_have_count(3)
    tokens.press("Home")
    expect(tokens.get_by_role("option").first).to_have_attribute("aria-selected", "true")
    tokens.press("ArrowRight")
    expect(tokens.get_by_role("option").nth(1)).to_have_attribute("aria-selected", "true")
    page.get_by_text("Teacher ÷ student").first.click()
    expect(tokens.locator("[data-bin^=s]")).to_have_count(0)
    tokens.get_by_role("option").last.hover()
    expect(page.locator(".lens-detail")).to_contain_text("<|im_end|>")


def test_hostile_tokens_are_text(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="Hostile tokens", rounds=1, steps=1, text=HOSTILE))
    page.goto(f"/exchanges/{exchange_ids(site, run_id)[0]}")
    expect(page.locator(".lens-text")).to_contain_text("</script><img")
    expect(page.locator(".lens-text")).to_contain_text("⟨U+202E⟩")
    assert page.evaluate("window.hacked") is None
