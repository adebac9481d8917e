from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import col, select

from app.db import reading
from app.errors import NotFound
from app.tables import ExchangeRow
from app.web.exchange_pages import Filters, exchange_list, exchange_page, whole
from tests.browser.seeding import Story, seed_run


@pytest.fixture(scope="module")
def run_id(engine: Engine) -> int:
    seed_run(engine, Story(name="Another", rounds=1, steps=2))
    return seed_run(engine, Story(rounds=2, steps=5))


FILTERS = [
    Filters(),
    Filters(outcome="kept"),
    Filters(correct=False, domain="protons"),
    Filters(tutee="student2", step=3),
    Filters(outcome="none"),
]


@pytest.mark.parametrize("filters", FILTERS)
def test_pages_forward_and_backward_hold_every_exchange_once(engine: Engine, run_id: int, filters: Filters) -> None:
    wanted = select(ExchangeRow.id).where(col(ExchangeRow.run_id) == run_id).order_by(col(ExchangeRow.id))
    if filters.outcome == "kept":
        wanted = wanted.where(col(ExchangeRow.outcome) == "kept")
    if filters.outcome == "none":
        wanted = wanted.where(col(ExchangeRow.outcome).is_(None))
    if filters.domain:
        wanted = wanted.where(col(ExchangeRow.domain) == "protons", col(ExchangeRow.correct).is_(False))
    if filters.tutee:
        wanted = wanted.where(col(ExchangeRow.tutee) == "student2", col(ExchangeRow.step) == 3)
    with reading(engine) as session:
        everything = list(session.exec(wanted).all())
        assert everything
        forward: list[int] = []
        after = None
        while True:
            page = exchange_list(session, run_id, filters, after=after)
            ids = [line.id for group in page.groups for line in group.lines]
            forward += ids
            if page.next is None:
                assert page.last is None
                break
            after = ids[-1]
        assert forward == everything
        backward: list[int] = []
        before = 0
        while True:
            page = exchange_list(session, run_id, filters, before=before)
            ids = [line.id for group in page.groups for line in group.lines]
            backward = ids + backward
            if page.previous is None:
                assert page.first is None
                break
            before = ids[0]
        assert backward == everything


def test_neighbours_follow_the_filter_and_siblings_the_question(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        wanted = select(ExchangeRow.id).where(col(ExchangeRow.run_id) == run_id, col(ExchangeRow.outcome) == "kept")
        kept = session.exec(wanted.order_by(col(ExchangeRow.id))).all()
        first, second, third = (key for key in kept[:3] if key is not None)
        page = exchange_page(session, second, Filters(outcome="kept"))
        assert (page.previous, page.next, page.query) == (first, third, "?outcome=kept")
        assert [sibling.index for sibling in page.siblings] == [0, 1, 2, 3]
        assert sum(sibling.current for sibling in page.siblings) == 1
        assert page.matched
        assert page.feedback is not None
        assert [piece.text for piece in page.feedback.raw.pieces if piece.mark == "cut"] == ["The correct option is 11."]


def test_there_is_no_exchange_beyond_the_last(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        for key in (10**9, 10**30):
            with pytest.raises(NotFound):
                exchange_page(session, key, Filters())
        with pytest.raises(NotFound):
            exchange_list(session, 10**9, Filters())


@given(st.dictionaries(st.sampled_from(["round", "step", "tutee", "domain", "correct", "outcome"]), st.text(max_size=80)))
def test_any_address_reads_as_some_filter_that_says_itself_again(given_: dict[str, str]) -> None:
    filters = Filters.read(given_)
    assert Filters.read(dict(parse_qsl(filters.query[1:]))) == filters


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("-1", None), ("1e3", None), ("9" * 30, None), ("", None), (None, None), ("²", None)]
)
def test_whole(text: str | None, number: int | None) -> None:
    assert whole(text) == number
