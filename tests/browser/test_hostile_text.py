"""Every page that shows what others wrote, opened in a real browser with a corpus of hostile text on it.

Nothing runs, nothing is asked of another host, no element or attribute stands there that a harmless page
would not have, no character is hidden, and no page is wider than its window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Dialog, Page

from app.templating import shown
from tests.browser.conftest import PATIENCE_MS
from tests.browser.hostile_site import Studio, addresses
from tests.hostile import BY_NAME, PAYLOADS, Payload

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TYPED = ("title-end", "quote-autofocus", "javascript", "polyglot", "bidi-unclosed")
"""What stands in addresses too."""

EXAMINE = """(html) => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const leading = ["href", "src", "action", "formaction", "hx-get", "hx-post", "hx-delete", "sse-connect", "data-href", "data-log"];
  const signatures = new Set(), addresses = [];
  for (const element of new DOMParser().parseFromString(html, "text/html").querySelectorAll("*")) {
    const told = element.getAttributeNames().filter((name) => name.startsWith("on") || !element.closest("svg"));
    signatures.add([element.localName, ...told.sort()].join(" "));
  }
  for (const element of document.querySelectorAll("*"))
    for (const name of leading.filter((name) => element.hasAttribute(name)))
      addresses.push([element.localName, name, element.getAttribute(name), new URL(element.getAttribute(name), location).href]);
  const tips = [...document.querySelectorAll("[data-tip]")].map((element) => element.dataset.tip);
  return {
    signatures: [...signatures],
    addresses,
    hacked: window.hacked ?? null,
    text: [document.documentElement.textContent, ...tips].join(" "),
    width: document.documentElement.scrollWidth,
    scripts: document.querySelectorAll("script:not([src])").length,
  };
}"""


HARMLESS = (
    "plain",
    "some plain words",
    "",
    "many plain words " * 20_000,
    "a line\nand another",
    *(f"plain {number}" for number in range(60)),
)
"""What the same pages bear where nobody means harm: long, short, and nothing at all."""
HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
RENDERED = re.compile(
    r"(strong|em|code|blockquote|pre|ul|ol|li|p|hr|table|thead|tbody|tr|th|td)( class| start)*"
    r"|(m[a-z]+|none)( (aria-label|display|fence|form|separator|stretchy|mathvariant|columnalign|accent|linethickness|[lr]space|width))*"
)
"""What Markdown and formulas may become."""
WIDTH = 1280


class Walk:
    """What was found on the pages that were opened."""

    def __init__(self) -> None:
        self.signatures: dict[str, str] = {}
        """Of elements: their name and attributes, and the first page that had one."""
        self.texts: dict[str, list[str]] = {}
        self.faults: list[str] = []

    def examine(self, page: Page, place: str, address: str) -> None:
        answer = page.goto(address, wait_until="load")
        assert answer is not None
        found: dict[str, Any] = page.evaluate(EXAMINE, answer.text())
        for signature in found["signatures"]:
            self.signatures.setdefault(signature, address)
        self.texts.setdefault(place, []).append(" ".join(found["text"].split()))
        ours = urlsplit(page.url).netloc
        for element, name, given, leads in found["addresses"]:
            if urlsplit(leads)[:2] != ("http", ours):
                self.faults.append(f"{address}: <{element} {name}={given[:200]!r}> leads away")
        if found["hacked"] is not None:
            self.faults.append(f"{address}: something ran")
        if found["width"] > WIDTH:
            self.faults.append(f"{address}: {found['width']} pixels wide")
        if hidden := HIDDEN.search(found["text"]):
            around = found["text"][max(0, hidden.start() - 30) : hidden.end() + 30]
            self.faults.append(f"{address}: U+{ord(hidden[0]):04X} is there and cannot be seen: {around!r}")
        if found["scripts"]:
            self.faults.append(f"{address}: a script within the page")

    def hear(self, address: str, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "Failed to load resource" not in text:  # the page that was asked for is not there, rightly
            self.faults.append(f"{address}: {text[:300]}")

    def hear_request(self, address: str, asked: str, ours: str) -> None:
        if not asked.startswith((f"{ours}/", "data:")):
            self.faults.append(f"{address}: asks {asked[:200]}")


@pytest.fixture
def go_through(new_context: Callable[..., BrowserContext], tmp_path: Path) -> Iterator[Callable[[Sequence[str], Sequence[str]], Walk]]:
    """Fills a studio with texts and opens each of its pages."""
    studios: list[Studio] = []

    def opened(texts: Sequence[str], asked: Sequence[str]) -> Walk:
        studio = Studio(tmp_path / str(len(studios)), texts)
        studios.append(studio)
        context = new_context(base_url=studio.site.url, viewport={"width": WIDTH, "height": 800})
        context.set_default_timeout(PATIENCE_MS)
        page, walk = context.new_page(), Walk()

        def refuse(dialog: Dialog) -> None:
            walk.faults.append(f"{page.url}: a dialog")
            dialog.dismiss()

        page.on("dialog", refuse)
        page.on("pageerror", lambda error: walk.faults.append(f"{page.url}: {error}"))
        page.on("console", lambda message: walk.hear(page.url, message.type, message.text))
        page.on("request", lambda request: walk.hear_request(page.url, request.url, studio.site.url))
        walk.examine(page, "login", "/login?" + urlencode({"next": "/" + asked[0]}))
        context.add_cookies([studio.cookie()])
        for place, address in addresses(studio.seeded, asked):
            walk.examine(page, place, address)
        context.close()
        return walk

    yield opened
    for studio in studios:
        studio.site.stop()


def test_no_page_does_what_a_text_says(go_through: Callable[[Sequence[str], Sequence[str]], Walk]) -> None:
    usual = go_through(HARMLESS, ["plain"])
    assert usual.faults == []
    found = go_through([payload.stored for payload in PAYLOADS], [BY_NAME[name].stored[:1_000] for name in TYPED])
    assert found.faults == []
    new = found.signatures.keys() - usual.signatures.keys()
    assert {signature for signature in new if not RENDERED.fullmatch(signature)} == set(), "elements that harmless text does not bring"
    beginnings = {payload.name: beginning(payload) for payload in PAYLOADS}
    texts = {place: " ".join(found.texts[place]) for place in EVERY_ONE}
    missing = {place: [name for name, begins in beginnings.items() if begins not in text] for place, text in texts.items()}
    assert {place: names for place, names in missing.items() if names} == {}


EVERY_ONE = ("runs", "exchanges", "exchange", "queue", "workers", "sweeps", "sweep", "settings/people", "chats", "specialist")
"""Places that show each text: were it not there, it would not have been tried."""


def beginning(payload: Payload) -> str:
    """What a page shows of a payload, at least."""
    return " ".join(re.sub(r"⟨\d+ more marks⟩.*", "", shown(payload.stored[:20])).split())[:24]
