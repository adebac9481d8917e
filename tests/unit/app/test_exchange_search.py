"""Words are found where they stand, under every filter, on both databases; and the index is only a follower."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, text

from app.backups.dump import backup
from app.backups.load import restore
from app.db import reading, writing
from app.lifecycle.retention import remove_rows
from app.records import exchange_search
from app.records.exchange_facets import MOST, facets
from app.records.exchange_queries import ExchangeFilters, page_of_ids
from app.records.exchange_search import search_of
from app.records.ingest import ingest
from app.records.search_terms import pattern, read_terms
from app.web.exchange_pages import Look
from app.web.inspector import exchange_rows, inspector
from tests.unit.app.factories import claimed, exchange, queued_run

TEXTS = ("Iron is 7.87 g/cm3 dense", "iron ore: heavy", "the ore of iron", "Über_alloys, naïve", "nothing", "denser than\niron")


def told(engine: Engine, texts: Sequence[str] = TEXTS) -> int:
    """A run whose rollouts are these."""
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, [exchange(10 + place, index=place, text=said) for place, said in enumerate(texts)])
    return run_id


def follow(engine: Engine) -> None:
    while search_of(engine).update():
        pass


def facets_total(engine: Engine, run_id: int, filters: ExchangeFilters) -> int:
    with reading(engine) as session:
        return facets(session, run_id, filters).total


def found(engine: Engine, run_id: int, asked: str, **filters: object) -> list[int]:
    """Places of the rollouts that are found."""
    with reading(engine) as session:
        first = page_of_ids(session, run_id, ExchangeFilters(), limit=1)[0]
        ids = page_of_ids(session, run_id, ExchangeFilters(search=asked, **filters), limit=100)  # type: ignore[arg-type]
    return [key - first for key in ids]


def test_words_phrases_beginnings_and_absent_words(engine: Engine) -> None:
    run_id, _ = told(engine), told(engine)
    follow(engine)
    every = list(range(len(TEXTS)))
    expected = {
        "iron": [0, 1, 2, 5],
        "IRON ore": [1, 2],
        '"iron ore"': [1],
        "iron -ore": [0, 5],
        "-iron": [3, 4],
        "dens": [],
        "dens*": every,  # the question says "dense"
        "denser": [5],
        "dens* heavy": [1],
        "g/cm3": [0],
        "7.87": [0],
        "über": [3],
        "alloys naïve": [3],
        "than iron": [5],
        "lead": every,
        "wrong": every,  # the feedback says so
        "run1": [],
        "facts": [],
        '"': [],
        "AND OR NOT ( * : ^ -": [],
        "x" * 500: [],
    }
    assert {asked: found(engine, run_id, asked) for asked in expected} == expected


def test_a_search_keeps_to_the_filters(engine: Engine) -> None:
    run_id = told(engine)
    follow(engine)
    assert found(engine, run_id, "iron", correct=False) == [1, 2, 5]
    assert found(engine, run_id, "iron", outcomes=("kept",)) == [0, 2]
    assert found(engine, run_id, "iron", outcomes=("kept", "no_match")) == [0, 1, 2, 5]
    assert found(engine, run_id, "iron", tutee="s1", tutor="s2", domain="facts", round=1, step=1, in_loss=True) == [0, 1, 2, 5]
    for nothing in ({"tutee": "s2"}, {"round": 2}, {"effect": "break"}, {"label": "odd"}, {"question": "q7"}, {"domain": "fact"}):
        assert found(engine, run_id, "iron", **nothing) == []
    with reading(engine) as session:
        ids = page_of_ids(session, run_id, ExchangeFilters(search="iron"), limit=2)
        assert page_of_ids(session, run_id, ExchangeFilters(search="iron"), after=ids[1], limit=1)[0] > ids[1]
        assert page_of_ids(session, run_id, ExchangeFilters(search="iron"), newest_first=True, limit=9)[-1] == ids[0]
    assert found(engine, run_id, "iron", ids=(10**9,)) == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_words_side_by_side_are_looked_for_part_by_part(engine: Engine, monkeypatch: pytest.MonkeyPatch, newest_first: bool) -> None:
    """The parts together find what one search finds, wherever a part ends, and the list of each says where the next one begins."""
    monkeypatch.setattr(exchange_search, "LOOKS_THROUGH", {"sqlite": 5, "postgresql": 5})
    monkeypatch.setattr(exchange_search, "FEW", -(10**6))  # whatever PostgreSQL expects, it is many
    run_id, other = queued_run(engine), queued_run(engine)
    tellings = {run: claimed(engine, run).token for run in (run_id, other)}
    with writing(engine) as session:
        for number in range(30):  # another run's stand in between, with the same steps
            for run, token in tellings.items():
                said = "ore of iron" if number in (14, 15, 29) else "iron of ore"
                ingest(session, run, token, [exchange(10 + number, index=number % 3, step=1 + number // 3, text=said)])
    follow(engine)
    filters = ExchangeFilters(search='"ore of iron"')
    with reading(engine) as session:
        expected = page_of_ids(session, run_id, filters, newest_first=newest_first, limit=100)
        found: list[int] = []
        parts = [exchange_rows(session, run_id, filters, before=0 if newest_first else None)]
        while further := parts[-1].previous if newest_first else parts[-1].next:
            side, _, place = further.rpartition("&")[2].partition("=")
            parts.append(exchange_rows(session, run_id, filters, **{side: int(place)}))
        for part in parts:
            ids = [line.id for group in part.groups for line in group.lines]
            found += reversed(ids) if newest_first else ids
    assert found == expected
    assert len(found) == 3
    assert len(parts) > 5
    with reading(engine) as session:
        page = inspector(session, run_id, filters, Look(), current=None, after=None, before=None)
    assert (page.partly, page.total, page.exchange) == (True, 0, None)
    assert page.rows.next


def test_counts_are_exact_before_and_after_the_index_has_followed(engine: Engine) -> None:
    run_id = told(engine)
    with reading(engine) as session:
        before = facets(session, run_id, ExchangeFilters(correct=False))
    follow(engine)
    with reading(engine) as session:
        assert facets(session, run_id, ExchangeFilters(correct=False)) == before
        assert before.total == len(TEXTS) - 1
        assert facets(session, run_id, ExchangeFilters(search="iron", correct=False)).total == 3
    assert len(TEXTS) < MOST


def test_a_list_by_facts_is_whole_where_the_index_ends_and_beyond(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    for begin in (10, 20):  # the index knows the first ten only
        with writing(engine) as session:
            ingest(session, run_id, claim.token, [exchange(begin + place, index=place % 3) for place in range(10)])
        if begin == 10:
            follow(engine)
    filters = ExchangeFilters(correct=False, outcomes=("kept", "no_match"))
    with reading(engine) as session:
        every = page_of_ids(session, run_id, ExchangeFilters(), limit=100)
        fitting = [key for place, key in enumerate(every) if place % 10 % 3]
        assert page_of_ids(session, run_id, filters, limit=100) == fitting
        assert page_of_ids(session, run_id, filters, newest_first=True, limit=100) == fitting[::-1]
        for place in range(len(fitting)):
            assert page_of_ids(session, run_id, filters, after=fitting[place], limit=4) == fitting[place + 1 : place + 5]
            assert page_of_ids(session, run_id, filters, after=fitting[place], newest_first=True, limit=4) == fitting[:place][::-1][:4]
            assert page_of_ids(session, run_id, filters, until=fitting[place], limit=100) == fitting[: place + 1]
    assert facets_total(engine, run_id, filters) == len(fitting)


def test_a_deleted_run_leaves_no_words(engine: Engine) -> None:
    gone, kept = told(engine), told(engine)
    follow(engine)
    remove_rows(engine, gone)
    with reading(engine) as session:
        assert page_of_ids(session, gone, ExchangeFilters(search="iron"), limit=9) == []
        assert facets(session, gone, ExchangeFilters()).total == 0
    assert found(engine, kept, "iron") == [0, 1, 2, 5]
    follow(engine)
    assert found(engine, kept, "iron") == [0, 1, 2, 5]


def test_the_index_is_made_anew_where_it_is_lost_or_of_other_rows(engine: Engine, tmp_path: object) -> None:
    run_id = told(engine)
    follow(engine)
    search_of(engine).reset()
    assert found(engine, run_id, "iron") == []
    follow(engine)
    assert found(engine, run_id, "iron") == [0, 1, 2, 5]


def test_a_restored_database_is_indexed_again(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("backup") / "backup.zip"
    told(engine, ["zebra"])
    backup(engine, path)
    run_id = told(engine)
    follow(engine)
    restore(engine, path, replace=True)
    follow(engine)
    with reading(engine) as session:
        assert len(page_of_ids(session, 1, ExchangeFilters(search="zebra"), limit=9)) == 1
        assert page_of_ids(session, run_id, ExchangeFilters(search="iron"), limit=9) == []


def test_migrations_and_backups_know_nothing_of_the_index(engine: Engine) -> None:
    follow(engine)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            names = [row[0] for row in connection.execute(text("SELECT name FROM sqlite_master"))]
            assert not [name for name in names if "words" in name]


@pytest.mark.parametrize(
    ("asked", "text", "hits"),
    [
        ("iron*", "Iron, irony; environment iron", ["Iron", "iron", "iron"]),
        ("iron", "Iron, irony; environment iron", ["Iron", "iron"]),
        ('"iron ore"', "iron  ore, iron-ore, ore", ["iron  ore", "iron-ore"]),
        ("-iron ore", "iron ore", ["ore"]),
    ],
)
def test_what_was_found_is_marked(asked: str, text: str, hits: list[str]) -> None:
    sought = pattern(read_terms(asked))
    assert sought is not None
    assert sought.findall(text) == hits
