"""Exports: whole, the same in every format, in memory that does not grow, safe while the run is written and in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from sqlalchemy import Engine, insert
from sqlmodel import col, select

from app.db import now, reading, writing
from app.records import exports, labels, token_lens
from app.records.exchange_queries import ExchangeFilters
from app.records.ingest import ingest
from app.tables import ExchangeRow, MetricRow, TokenLensRow
from opcod.events import StepFinished
from opcod.plain_text import storable
from tests.browser.seeding import Story, seed_run
from tests.hostile import PAYLOADS
from tests.unit.app.factories import claimed, exchange, queued_run, story

EVERYTHING = ExchangeFilters()


@pytest.fixture
def run_id(engine: Engine) -> int:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, story())
    return run_id


def table(chunks: Iterator[bytes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(pa.BufferReader(b"".join(chunks))).to_pylist()
    return rows


def lines(chunks: Iterator[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(chunks).decode().splitlines()]


def test_metrics_are_the_same_in_every_format(engine: Engine, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "METRIC_BATCH", 4)  # nine points, three batches
    as_lines = lines(exports.stream(exports.metrics(engine, run_id, ()), "jsonl", exports.METRIC_FIELDS))
    as_table = table(exports.stream(exports.metrics(engine, run_id, ()), "parquet", exports.METRIC_FIELDS))
    as_csv = b"".join(exports.stream(exports.metrics(engine, run_id, ()), "csv", exports.METRIC_FIELDS)).decode()
    assert len(as_lines) == 9
    assert [{**row, "at": row["at"].isoformat()} for row in as_table] == as_lines
    assert [row["name"] for row in csv.DictReader(io.StringIO(as_csv))] == [row["name"] for row in as_lines]
    (entropy,) = lines(exports.stream(exports.metrics(engine, run_id, ["s1/train/ent*"]), "jsonl", exports.METRIC_FIELDS))
    assert entropy["value"] == 1.5


def test_exchanges_are_the_same_in_both_formats_and_filtered(engine: Engine, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "EXCHANGE_BATCH", 3)
    as_lines = lines(exports.stream(exports.exchanges(engine, run_id, EVERYTHING), "jsonl", exports.EXCHANGE_FIELDS))
    with writing(engine) as session:
        labels.put(session, as_lines[2]["id"], "odd one", "ann")
    as_table = table(exports.stream(exports.exchanges(engine, run_id, EVERYTHING), "parquet", exports.EXCHANGE_FIELDS))
    assert [row["rollout_text"] for row in as_table] == [item["rollout"]["text"] for item in as_lines]
    assert [row["feedback_removed"] for row in as_table] == [["(B)"]] * 4
    assert [row["labels"] for row in as_table] == [[], [], ["odd one"], []]
    narrowed = exports.exchanges(engine, run_id, ExchangeFilters(outcomes=("kept",), label="odd one"))
    assert [item["id"] for item in lines(exports.stream(narrowed, "jsonl", exports.EXCHANGE_FIELDS))] == [as_lines[2]["id"]]


@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_are_told_where_they_were_recorded(engine: Engine, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(exports, "TOKEN_BATCH", batch)
    run_id = seed_run(engine, Story(rounds=1, steps=2))
    with writing(engine) as session:
        gone = session.exec(select(TokenLensRow).where(col(TokenLensRow.run_id) == run_id)).first()
        session.delete(gone)
    fields = {**exports.EXCHANGE_FIELDS, **exports.TOKEN_FIELDS}
    as_lines = lines(exports.stream(exports.exchanges(engine, run_id, EVERYTHING, tokens=True), "jsonl", fields))
    as_table = table(exports.stream(exports.exchanges(engine, run_id, EVERYTHING, tokens=True), "parquet", fields))
    with reading(engine) as session:
        for item in as_lines[1:]:
            assert item["tokens"] == token_lens.tokens(session, item["id"]).model_dump()
    assert as_lines[0]["tokens"] is None
    assert as_table[0]["tokens_texts"] is None
    for item, row in zip(as_lines[1:], as_table[1:], strict=True):
        assert {name: row[f"tokens_{name}"] for name in item["tokens"]} == item["tokens"]
    assert any(item["tokens"]["alternatives"] for item in as_lines[1:])


def test_an_empty_run_gives_an_empty_file_that_can_be_read(engine: Engine) -> None:
    run_id = queued_run(engine)
    assert table(exports.stream(exports.exchanges(engine, run_id, EVERYTHING), "parquet", exports.EXCHANGE_FIELDS)) == []
    assert b"".join(exports.stream(exports.metrics(engine, run_id, ()), "jsonl", exports.METRIC_FIELDS)) == b""


def test_what_is_written_meanwhile_is_left_to_the_next_export(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "EXCHANGE_BATCH", 2)
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, [exchange(30 + index, index=index) for index in range(5)])
    batches = exports.exchanges(engine, run_id, EVERYTHING)
    found = [next(batches)]
    with writing(engine) as session:  # nothing of the export holds the writer up
        ingest(session, run_id, claim.token, [exchange(50 + index, index=index, step=2) for index in range(5)])
        ingest(session, run_id, claim.token, [StepFinished(seq=90, round=1, tutee="s1", step=1, metrics={"s1/train/loss": 1.0})])
    found += batches
    assert [item["step"] for batch in found for item in batch] == [1] * 5


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_run(lasting_engine: Engine, format: exports.Format) -> None:
    """Some 40 MB of text, and 30,000 points, through a few MB."""
    engine = lasting_engine
    run_id = queued_run(engine)
    row = {
        **{"run_id": run_id, "round": 1, "step": 1, "group": 0, "tutee": "s1", "domain": "facts", "question_id": "q"},
        **{"question_prompt": "?", "question_answer": "3", "rollout_index": 0, "rollout_text": "x" * 20_000, "rollout_tokens": 5},
        **{"correct": True, "truncated": False, "in_loss": True},
    }
    point = {"run_id": run_id, "name": "s1/train/loss", "step": 1, "round": 1, "value": 0.5, "at": now()}
    with writing(engine) as session:
        for start in range(0, 2_000, 500):
            session.exec(insert(ExchangeRow), params=[{**row, "seq": start + i} for i in range(500)])
        for start in range(0, 30_000, 5_000):
            session.exec(insert(MetricRow), params=[{**point, "seq": start + i} for i in range(5_000)])
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        sizes = [len(part) for part in exports.stream(exports.exchanges(engine, run_id, EVERYTHING), format, exports.EXCHANGE_FIELDS)]
        peak_exchanges = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        for _ in exports.stream(exports.metrics(engine, run_id, ()), format, exports.METRIC_FIELDS):
            pass
        peak_metrics = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(sizes) >= 10
    assert peak_exchanges < 20e6
    assert peak_metrics < 10e6
    assert pa.total_allocated_bytes() - before < 20e6


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "|x", "%0A=1"])
def test_no_text_becomes_a_formula_in_a_spreadsheet(text: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(exports.csv_lines([[text]]).decode(), newline=""))
    assert cell[0] == "'"
    assert exports.unguarded(cell) == text


def test_numbers_stay_numbers() -> None:
    assert exports.csv_lines([[-0.5, 3, None, True, "a,b", "5 < 6"]]) == b'-0.5,3,,true,"a,b",5 < 6\r\n'


FORMULA = re.compile(r"(?:\A|[;,\t\r\n\"])[\s\u200b]*[=+\-@|%\uff1d\uff0b\uff0d\uff20]")
ODD_CHARACTERS = "=+-@|%'; ,\t\r\n\"\u00a0\u200b\uff1da"
ODD_TEXT = st.one_of(st.text(), st.text(st.sampled_from(ODD_CHARACTERS)), st.sampled_from([one.text for one in PAYLOADS]))


@given(ODD_TEXT)
def test_no_cell_begins_a_formula_and_each_can_be_read_back(text: str) -> None:
    kept = exports.guarded(text)
    assert not FORMULA.search(kept)
    assert exports.unguarded(kept) == text


@given(st.lists(ODD_TEXT.map(storable), min_size=1, max_size=5))
def test_a_file_of_cells_is_read_back_whole(cells: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(exports.csv_lines([cells]).decode(), newline=""))
    assert [exports.unguarded(cell) for cell in row] == cells


@given(st.text(st.sampled_from(" \n\t;'"), max_size=20_000))
def test_blanks_cost_no_time(text: str) -> None:
    assert exports.unguarded(exports.guarded(text + "=")) == text + "="
