"""Remakes the pictures of README and docs/guide from real runs: `make screenshots`.

A studio is started in a home of its own, in which the demo is looked at, run with OPCoD and run with SDPO: five minutes on two
cores. `--home FOLDER` keeps it, so that the next pictures are taken of the same runs at once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from app.client import Client
from tests.chromium import find_chromium
from tests.conftest import CHROMIUM_ARGUMENTS
from tests.integration.studio import Studio, studio

FOLDER = Path(__file__).parents[2] / "docs/pictures"
WIDTH = 1280
MOST_BYTES = 1_500_000
"""Of all pictures: they are read over slow lines, and stay in the history for good."""
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


@dataclass(frozen=True)
class Subjects:
    """What there is to be shown."""

    run: int
    other: int
    preflight: int
    exchange: int
    """One that feedback rescued, recorded token by token."""


@dataclass(frozen=True)
class Picture:
    """A part of a page, from the top or from an element's upper edge, as high as is said."""

    name: str
    address: Callable[[Subjects], str]
    height: int
    ready: str
    """An element that is there when the page is."""
    at: str | None = None


PICTURES = (
    Picture("launch", lambda it: f"/experiments/new?preflight={it.preflight}", 900, "#preflight-panel .seen"),
    Picture("preflight", lambda it: f"/preflights/{it.preflight}", 1000, "#preflight .example"),
    Picture("run", lambda it: f"/runs/{it.run}", 1130, "#charts canvas"),
    Picture("inspector", lambda it: f"/runs/{it.run}/exchanges?effect=rescue", 900, "#exchange"),
    Picture("lens", lambda it: f"/exchanges/{it.exchange}", 560, "#tokens [role=option]", at="#tokens"),
    Picture("compare", lambda it: f"/compare?runs={it.run},{it.other}", 1000, "#curves canvas"),
    Picture("report", lambda it: f"/runs/{it.run}/report?compare={it.other}", 1000, "#scores"),
)


def main() -> None:
    """Make what is missing in the home, then take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="keep the studio's data here, and use what is there")
    parser.add_argument("--only", help="the one picture to take")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing, studio((asked.home or Path(passing) / "home").resolve()) as up:
        subjects = made(up.client, up)
        for picture in PICTURES:
            if asked.only in (None, picture.name):
                take(up.url, picture, subjects)
    size = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    print(f"{FOLDER}: {size / 1e6:.2f} MB")
    assert size <= MOST_BYTES, "too large: take fewer or smaller pictures"


def made(client: Client, up: Studio) -> Subjects:
    """The pre-flight and the runs, made unless they are there."""
    looked = next((one.id for one in client.preflights() if one.state == "completed"), None)
    if looked is None:
        print("Looking at the demo before it is launched")
        looked = client.wait_for_preflight(client.preflight({"preset": "demo", "name": "Two specialists"}).id).id
    there = {run.name: run.id for run in client.runs(status="completed")}
    ids = []
    for preset, name in (("demo", "Two specialists"), ("demo-sdpo", "Each by itself")):
        if name not in there:
            print(f"Running {preset}")
            there[name] = client.launch({"preset": preset, "name": name}).id
            up.await_end(there[name], seconds=900)
        ids.append(there[name])
    rescued = (one.id for one in client.exchanges(ids[0], effect="rescue") if one.in_loss)
    exchange = next(one for one in rescued if client.exchange(one).tokens_recorded)
    return Subjects(run=ids[0], other=ids[1], preflight=looked, exchange=exchange)


def take(url: str, picture: Picture, subjects: Subjects) -> None:
    """One picture in both themes."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
        for scheme in SCHEMES:
            page = browser.new_page(
                viewport={"width": WIDTH, "height": picture.height}, color_scheme=scheme, base_url=url, reduced_motion="reduce"
            )
            page.goto(picture.address(subjects))
            page.locator(picture.ready).first.wait_for()
            expect(page.locator(".htmx-request")).to_have_count(0)
            if picture.at:
                page.locator(picture.at).evaluate("element => scrollTo(0, element.getBoundingClientRect().top + scrollY - 16)")
            page.mouse.move(0, 0)
            path = FOLDER / f"{picture.name}-{scheme}.png"
            path.write_bytes(small(page.screenshot(animations="disabled")))
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
            page.close()
        browser.close()


def small(png: bytes) -> bytes:
    """The picture with 256 colours, which is as many as a page of text and lines has use for."""
    out = BytesIO()
    image = Image.open(BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main()
