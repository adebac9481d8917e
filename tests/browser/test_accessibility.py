"""Every page, as people have it who use no mouse, have no sharp eyes, or hold a phone: axe-core, the keyboard's reach, 360 pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page
from sqlmodel import col, select

from app.db import reading
from app.tables import ExchangeRow, JobRow
from tests.browser.hostile_site import Studio

pytestmark = pytest.mark.browser

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
NARROW = 360
TEXTS = (
    "plain words",
    "a name that is rather long and has to fit onto a narrow screen somehow",
    "a line\nand another",
    "some-organisation/A-model-with-one-long-name-0.5B-Instruct-2507",
)

UNFOLD = """async (narrow) => {
  while (document.querySelector(".htmx-request")) await new Promise(requestAnimationFrame);
  for (const details of document.querySelectorAll("main details")) details.open = true;
  const rows = Map.groupBy(document.querySelectorAll("main :is(tr, li, article, token-lens [role=option])"), (row) => row.parentElement);
  for (const alike of rows.values()) for (const row of alike.slice(8)) if (!row.ariaSelected) row.remove();
  const { scrollWidth } = document.scrollingElement;
  const over = [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > narrow + 1);
  return scrollWidth <= narrow ? [] : [`${scrollWidth} pixels wide: ${over.slice(0, 3).map((element) => element.outerHTML.slice(0, 120))}`];
}"""
"""Folds nothing away, leaves eight of what is alike, and tells what widens the page."""
JUDGE = """async (standard) => {
  const options = { runOnly: standard, resultTypes: ["violations"], iframes: false, preload: false };
  const { violations } = await axe.run(document.querySelector("main") ?? document, options);
  const faults = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target}: ${node.failureSummary}`));
  const reached = "a[href], button, input, select, textarea, summary, label, [tabindex], [data-tip]";
  for (const element of document.querySelectorAll("main *")) {
    const { cursor, pointerEvents } = getComputedStyle(element);
    const pressed = cursor === "pointer" && pointerEvents !== "none";
    if (pressed && !element.closest(reached) && !element.querySelector("a[href], button, input"))
      faults.push(`a mouse presses it, the keyboard does not get there: ${element.outerHTML.slice(0, 120)}`);
  }
  return faults;
}"""


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path / "studio", TEXTS)
    yield studio
    studio.site.stop()


def addresses(studio: Studio) -> Iterator[str]:
    """One of each kind of page."""
    seeded, run = studio.seeded, studio.seeded.archive_run
    with reading(studio.site.engine) as session:
        seen = select(col(ExchangeRow.id)).where(col(ExchangeRow.run_id) == run).limit(1)
        exchange, chat = session.exec(seen).one(), session.exec(select(JobRow.id).where(JobRow.kind == "chat")).first()
    yield from ("/", f"/runs/{run}", f"/runs/{run}/exchanges", f"/exchanges/{exchange}", f"/runs/{run}/report")
    yield from ("/queue", "/workers", "/storage", "/docs/method")
    yield from ("/sweeps", f"/sweeps/{seeded.sweep}", "/sweeps/new")
    yield f"/compare?runs={','.join(map(str, (run, *seeded.named_runs)))}"
    yield from ("/domains", "/domains/1", "/uploads/1", "/students", "/students/2", "/students/new", f"/chats?job={chat}")
    yield from ("/specialists/new", f"/specialists/{seeded.specialist}")
    yield from ("/preflights", *(f"/preflights/{job}" for job in seeded.preflights))
    yield from (f"/settings{tab}" for tab in ("", "/tokens", "/webhooks", "/people", "/audit", "/studio"))
    yield f"/experiments/new?from={run}"


def judge(page: Page, address: str) -> Iterator[str]:
    """What is wrong with a page, on a narrow screen and on a wide one."""
    page.set_viewport_size({"width": NARROW, "height": 800})
    answer = page.goto(address)
    assert answer is not None
    assert answer.ok, address
    yield from page.evaluate(UNFOLD, NARROW)
    page.set_viewport_size({"width": 1280, "height": 900})
    yield from page.evaluate(JUDGE, STANDARD)


def test_no_page_is_out_of_anybody_s_reach(studio: Studio, new_context: Callable[..., BrowserContext]) -> None:
    context = new_context(base_url=studio.site.url, reduced_motion="reduce")
    context.add_init_script(AXE)
    page = context.new_page()
    faults = [f"/login: {fault}" for fault in judge(page, "/login")]
    context.add_cookies([studio.cookie()])
    for place, address in enumerate(addresses(studio)):
        page.emulate_media(color_scheme="dark" if place % 2 else "light")  # they share their tokens: each page in one of them
        faults += [f"{address}: {fault}" for fault in judge(page, address)]
    context.close()
    assert faults == [], "\n".join(faults)
