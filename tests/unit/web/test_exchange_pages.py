"""The inspector's list and one exchange, from seeded runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import col, select
from starlette.datastructures import QueryParams

from app.db import reading
from app.errors import NotFound
from app.records.exchange_queries import ExchangeFilters
from app.records.exchange_search import search_of
from app.tables import ExchangeRow
from app.web.exchange_filters import query_of, read_filters, whole
from app.web.exchange_pages import Look, exchange_page
from app.web.inspector import exchange_rows, inspector
from tests.browser.seeding import Story, seed_run


@pytest.fixture(scope="module")
def run_id(engine: Engine) -> int:
    seed_run(engine, Story(name="Another", rounds=1, steps=2))
    run_id = seed_run(engine, Story(rounds=2, steps=5))
    while search_of(engine).update():
        pass
    return run_id


FILTERS: list[tuple[ExchangeFilters, list[Any]]] = [
    (ExchangeFilters(), []),
    (ExchangeFilters(outcomes=("kept",)), [col(ExchangeRow.outcome) == "kept"]),
    (
        ExchangeFilters(correct=False, domain="protons"),
        [col(ExchangeRow.correct).is_(False), col(ExchangeRow.domain) == "protons"],
    ),
    (ExchangeFilters(tutee="student2", step=3), [col(ExchangeRow.tutee) == "student2", col(ExchangeRow.step) == 3]),
    (ExchangeFilters(outcomes=("none",)), [col(ExchangeRow.outcome).is_(None)]),
    (ExchangeFilters(search="iron 11", correct=True), [col(ExchangeRow.correct).is_(True)]),
]


@pytest.mark.parametrize(("filters", "conditions"), FILTERS)
def test_parts_forward_and_backward_hold_every_exchange_once(
    engine: Engine, run_id: int, filters: ExchangeFilters, conditions: list[Any]
) -> None:
    wanted = select(ExchangeRow.id).where(col(ExchangeRow.run_id) == run_id, *conditions).order_by(col(ExchangeRow.id))
    with reading(engine) as session:
        everything = list(session.exec(wanted).all())
        assert everything
        forward: list[int] = []
        after = None
        while True:
            rows = exchange_rows(session, run_id, filters, after=after)
            ids = [line.id for group in rows.groups for line in group.lines]
            forward += ids
            if rows.next is None:
                break
            after = ids[-1]
        assert forward == everything
        backward: list[int] = []
        before = 0
        while True:
            rows = exchange_rows(session, run_id, filters, before=before)
            ids = [line.id for group in rows.groups for line in group.lines]
            backward = ids + backward
            if rows.previous is None:
                break
            before = ids[0]
        assert backward == everything
        assert inspector(session, run_id, filters, Look(), current=None, after=None, before=None).total == len(everything)


def test_the_page_opens_the_list_where_the_exchange_stands(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        last = session.exec(select(ExchangeRow.id).where(col(ExchangeRow.run_id) == run_id).order_by(col(ExchangeRow.id).desc())).first()
        assert last is not None
        page = inspector(session, run_id, ExchangeFilters(), Look(), current=last, after=None, before=None)
    shown = [line.id for group in page.rows.groups for line in group.lines]
    assert shown[-1] == last
    assert len(shown) > 10
    assert page.exchange is not None
    assert page.exchange.id == last


def test_neighbours_follow_the_filter_and_siblings_the_question(engine: Engine, run_id: int) -> None:
    filters = ExchangeFilters(outcomes=("kept",))
    with reading(engine) as session:
        wanted = select(ExchangeRow.id, ExchangeRow.step, ExchangeRow.group, ExchangeRow.tutee).where(
            col(ExchangeRow.run_id) == run_id, col(ExchangeRow.outcome) == "kept"
        )
        kept = session.exec(wanted.order_by(col(ExchangeRow.id))).all()
        first, second, third = (row[0] for row in kept[:3])
        assert second is not None
        page = exchange_page(session, second, filters)
        assert (page.previous, page.next, page.query) == (first, third, "?outcome=kept")
        assert [sibling.index for sibling in page.siblings] == [0, 1, 2, 3]
        assert sum(sibling.current for sibling in page.siblings) == 1
        assert page.matched
        assert page.feedback is not None
        assert [piece.text for piece in page.feedback.raw.passage.pieces if piece.mark == "cut"] == ["The correct option is 11."]
        questions: dict[Any, int] = {}
        for key, *question in kept:
            questions.setdefault(tuple(question), key or 0)
        starts = list(questions.values())
        middle = exchange_page(session, starts[2], filters)
        assert (middle.question_previous, middle.question_next) == (starts[1], starts[3])


def test_the_prompt_shows_its_parts(engine: Engine, run_id: int) -> None:
    wanted = select(ExchangeRow.id).where(
        col(ExchangeRow.run_id) == run_id, col(ExchangeRow.outcome) == "kept", col(ExchangeRow.own_solution).is_not(None)
    )
    with reading(engine) as session:
        key = session.exec(wanted).first()
        assert key is not None
        page = exchange_page(session, key, ExchangeFilters())
    assert [part.mark for part in page.parts] == ["question", "solution", "feedback"]


def test_two_texts_stand_side_by_side(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        rows = session.exec(select(ExchangeRow).where(col(ExchangeRow.run_id) == run_id)).all()
        right = next(row for row in rows if row.correct and row.again_text is None)
        wrong = next(row for row in rows if not row.correct)
        page = exchange_page(session, right.id or 0, ExchangeFilters(), Look(beside=str(wrong.id)))
        assert page.sides is not None
        assert [piece.text for piece in page.sides[0].passage.pieces if piece.mark == "lost"] == ["11", "11"]
        assert [piece.text for piece in page.sides[1].passage.pieces if piece.mark == "new"] == ["5", "5"]
        for nonsense in ("again", "0", "99999999", "²", "x"):
            assert exchange_page(session, right.id or 0, ExchangeFilters(), Look(beside=nonsense)).sides is None
        broken = next(row for row in rows if row.effect == "break")
        page = exchange_page(session, broken.id or 0, ExchangeFilters(), Look(beside="again"))
        assert page.again is not None
        assert page.again.reason == "The feedback broke it: right without, wrong with it."
        assert page.sides is not None
        assert "7" in [piece.text for piece in page.sides[1].passage.pieces if piece.mark == "new"]


def test_there_is_no_exchange_beyond_the_last(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        for key in (10**9, 10**30):
            with pytest.raises(NotFound):
                exchange_page(session, key, ExchangeFilters())
        with pytest.raises(NotFound):
            inspector(session, 10**9, ExchangeFilters(), Look(), current=None, after=None, before=None)


NAMES = ["round", "step", "tutee", "domain", "correct", "outcome", "in_loss", "effect", "label", "question", "q", "id"]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=80) | st.sampled_from(["true", "no", "kept", "break", "7"])), max_size=8)
)
def test_any_address_reads_as_some_filter_that_says_itself_again(pairs: list[tuple[str, str]]) -> None:
    filters = read_filters(QueryParams(pairs))
    assert read_filters(QueryParams(query_of(filters)[1:])) == filters


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("-1", None), ("1e3", None), ("9" * 30, None), ("", None), (None, None), ("²", None)]
)
def test_whole(text: str | None, number: int | None) -> None:
    assert whole(text) == number


def test_a_reward_is_what_counts_without_a_self_teacher(engine: Engine) -> None:
    run_id = seed_run(engine, Story(name="Rewarded", algorithm="grpo", rounds=1, steps=1))
    with reading(engine) as session:
        found = session.exec(select(col(ExchangeRow.id)).where(col(ExchangeRow.run_id) == run_id)).all()
        said = {page.in_loss: page.loss_reason for page in (exchange_page(session, one or 0, ExchangeFilters()) for one in found)}
    assert all("GRPO has no self-teacher" in reason for reason in said.values())
    assert "by its reward" in said[True]
