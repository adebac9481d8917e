"""A page that asks again and again for what is new ends with what one question brings."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from app.db import reading
from app.web import known_series
from app.web import series as module
from app.web.known_series import series_of
from app.web.series import Wanted, series
from tests.browser.seeding import Story, events, feed, start_run

STORY = Story(rounds=2, steps=4)
NAMES = tuple(f"{student}/{name}" for student in STORY.students for name in ("train/loss", "feedback/kept_fraction"))
Page = dict[str, dict[Any, Any]]


def take(page: Page, part: dict[str, Any]) -> None:
    """As the page does it: entries that come again take the place of those that it has."""
    for name in ("evaluations", "gates", "break_rescue"):
        for item in part[name]:
            page.setdefault(name, {})[str(item)] = item
    for name, curve in part.get("curves", {"items": {}})["items"].items():
        known = page.setdefault("curves", {}).setdefault(name, {})
        known.update({first: (mean, at) for first, mean, at in zip(curve["first"], curve["mean"], curve["at"], strict=True)})
    for key in ("tallies", "rounds", "heat"):
        for item in part.get(key, {"items": []})["items"]:
            page.setdefault(key, {})[item[0], item[1]] = item


@pytest.mark.parametrize("most_events", [20_000, 4])
def test_what_is_known_and_the_news_make_the_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch, most_events: int) -> None:
    """Whenever a page opens, and also where entries become wider as the run grows."""
    monkeypatch.setattr(module, "MOST_EVENTS", most_events)
    for name in known_series._POINTS:
        monkeypatch.setitem(known_series._POINTS, name, 3)
        monkeypatch.setattr(module, {"curves": "CURVE_POINTS", "tallies": "TALLY_POINTS", "heat": "HEAT_POINTS"}[name], 3)
    claim = start_run(engine, STORY)
    batch = list(events(STORY))
    wanted = Wanted(-1, NAMES, curves=0, tallies=0, heat=0)
    widths = set()
    for begin in range(0, len(batch), 29):
        feed(engine, claim, batch[begin : begin + 29])
        with reading(engine) as session:
            told = series_of(session, claim.run_id, wanted)
            assert told == series(session, claim.run_id, wanted)
        widths.add(told["curves"]["width"])
    assert len(widths) > 1


@pytest.mark.parametrize("most_events", [20_000, 4])
def test_parts_make_the_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch, most_events: int) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", most_events)
    claim = start_run(engine, STORY)
    batch = list(events(STORY))
    page: Page = {}
    cursor = -1
    for begin in range(0, len(batch), 17):
        feed(engine, claim, batch[begin : begin + 17])
        with reading(engine) as session:
            part = series(session, claim.run_id, Wanted(cursor, NAMES, curves=1, tallies=1, heat=1))
        cursor = part["cursor"]
        take(page, part)
    with reading(engine) as session:
        whole: Page = {}
        take(whole, series(session, claim.run_id, Wanted(-1, NAMES, curves=0, tallies=0, heat=0)))
        nothing = series(session, claim.run_id, Wanted(cursor, NAMES, curves=1, tallies=1, heat=1))
    assert page == whole
    assert set(whole["curves"]) == set(NAMES)
    assert all(whole[name] for name in ("evaluations", "gates", "break_rescue", "tallies", "rounds", "heat"))
    assert nothing == {"cursor": cursor, "names": None, "evaluations": [], "gates": [], "break_rescue": []}


def test_a_page_without_a_width_is_told_everything_of_everybody(engine: Engine) -> None:
    claim = start_run(engine, STORY)
    batch = list(events(STORY))
    feed(engine, claim, batch[:-40])
    with reading(engine) as session:
        cursor = series(session, claim.run_id, Wanted())["cursor"]
    feed(engine, claim, batch[-40:])
    with reading(engine) as session:
        part = series(session, claim.run_id, Wanted(cursor, NAMES, curves=0, tallies=0))
    assert set(part["curves"]["items"]) == set(NAMES)
    assert {item[0] for item in part["tallies"]["items"]} == set(STORY.students)
