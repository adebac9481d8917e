"""Everything that a run recorded, as a stream: JSON lines, Parquet or CSV, in memory that does not grow with the run.

Rows are read by key in batches, each in a short transaction of its own, up to the last row that was
there at the start: what is being written meanwhile is neither waited for nor half seen.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Engine, func
from sqlmodel import col, select

from app.db import reading
from app.records import exchange_queries, queries, token_lens
from app.records.exchange_queries import ExchangeFilters
from app.tables import ExchangeRow, MetricRow

Format = Literal["jsonl", "parquet", "csv"]
MEDIA_TYPES: Mapping[Format, str] = {
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
}
METRIC_BATCH = 5_000
EXCHANGE_BATCH = 200
"""Texts may be long: this many at the longest are some 10 MB."""
TOKEN_BATCH = 8
"""Rollouts unpacked token by token at a time: with their alternatives, some 3 MB each at a thousand tokens."""

Record = dict[str, Any]
Batches = Iterator[list[Record]]

METRIC_FIELDS: Mapping[str, str] = {
    "id": "int64", "seq": "int64", "name": "string", "step": "int64", "round": "int64", "value": "float64", "at": "time",
}  # fmt: skip
EXCHANGE_FIELDS: Mapping[str, str] = {
    "id": "int64", "run_id": "int64", "round": "int64", "step": "int64", "group": "int64", "tutee": "string", "tutor": "string",
    "domain": "string", "question_id": "string", "question_prompt": "string", "question_answer": "string", "rollout_index": "int64",
    "rollout_text": "string", "rollout_tokens": "int64", "rollout_correct": "bool", "rollout_extracted": "string",
    "rollout_truncated": "bool", "own_solution": "string", "feedback_raw": "string", "feedback_text": "string",
    "feedback_outcome": "string", "feedback_concept": "string", "feedback_matched_word": "string", "feedback_removed": "strings",
    "teacher_prompt": "string", "in_loss": "bool", "again_text": "string", "again_correct": "bool", "again_extracted": "string",
    "effect": "string", "divergence_mean": "float64", "divergence_max": "float64", "labels": "strings",
}  # fmt: skip
"""Parquet has the nested fields of an exchange side by side: `feedback.text` is `feedback_text`."""
TOKEN_FIELDS: Mapping[str, str] = {
    "tokens_texts": "strings", "tokens_in_loss": "bools", "tokens_student": "floats", "tokens_teacher": "floats",
    "tokens_divergence": "floats", "tokens_weight": "floats", "tokens_alternatives": "alternatives",
}  # fmt: skip


def metrics(engine: Engine, run_id: int, names: Sequence[str]) -> Batches:
    """The run's points in order of arrival, fields as in the list."""
    with reading(engine) as session:
        last = session.exec(select(func.max(col(MetricRow.id))).where(col(MetricRow.run_id) == run_id)).one() or 0
    after = 0
    columns = [getattr(MetricRow, name) for name in METRIC_FIELDS]
    while True:
        rows = queries.metric_rows(run_id, names).where(col(MetricRow.id) > after, col(MetricRow.id) <= last)
        with reading(engine) as session:
            found = session.connection().execute(rows.with_only_columns(*columns).limit(METRIC_BATCH)).all()
        if not found:
            return
        after = found[-1][0]
        yield [dict(zip(METRIC_FIELDS, row, strict=True)) for row in found]


def exchanges(engine: Engine, run_id: int, filters: ExchangeFilters, *, tokens: bool = False) -> Batches:
    """The run's exchanges that fit, in order of arrival, fields as in the list.

    With `tokens` each has a further one, `tokens`: the rollout token by token, None where that was not recorded.
    """
    with reading(engine) as session:
        last = session.exec(select(func.max(col(ExchangeRow.id))).where(col(ExchangeRow.run_id) == run_id)).one() or 0
    after = 0
    while True:
        with reading(engine) as session:
            page = exchange_queries.exchanges(session, run_id, filters, after=after, until=last, limit=EXCHANGE_BATCH)
        if page.items:
            after = page.items[-1].id
            records = [item.model_dump() for item in page.items]
            yield from _with_tokens(engine, run_id, records) if tokens else (records,)
        if page.next_cursor is None:
            return


def _with_tokens(engine: Engine, run_id: int, records: list[Record]) -> Batches:
    for start in range(0, len(records), TOKEN_BATCH):
        batch = records[start : start + TOKEN_BATCH]
        with reading(engine) as session:
            lenses = token_lens.of_many(session, run_id, [record["id"] for record in batch])
        yield [record | {"tokens": _tokens(lenses.get(record["id"]))} for record in batch]


def _tokens(lens: bytes | None) -> Record | None:
    return token_lens.unpacked(lens).model_dump() if lens is not None else None


def stream(batches: Batches, format: Format, fields: Mapping[str, str]) -> Iterator[bytes]:
    """The batches as bytes of a whole file. Parquet and CSV have `fields` as their columns."""
    if format == "jsonl":
        return _json_lines(batches)
    if format == "csv":
        return _csv(batches, list(fields))
    return _parquet(batches, fields)


def _json_lines(batches: Batches) -> Iterator[bytes]:
    for batch in batches:
        yield "".join(json.dumps(record, ensure_ascii=False, default=_plain) + "\n" for record in batch).encode()


def _csv(batches: Batches, names: Sequence[str]) -> Iterator[bytes]:
    yield csv_lines([names])
    for batch in batches:
        yield csv_lines([[record[name] for name in names] for record in batch])


def _parquet(batches: Batches, fields: Mapping[str, str]) -> Iterator[bytes]:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "string": pa.string(), "strings": pa.list_(pa.string())}
    types |= {"time": pa.timestamp("us", tz="UTC"), "bools": pa.list_(pa.bool_()), "floats": pa.list_(pa.float64())}
    types["alternatives"] = pa.list_(pa.list_(pa.struct([("text", pa.string()), ("student", pa.float64()), ("teacher", pa.float64())])))
    schema = pa.schema([(name, types[kind]) for name, kind in fields.items()])
    sink = _Sink()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_pylist([_flat(record) for record in batch], schema=schema))
            yield sink.drain()
    yield sink.drain()


class _Sink(io.RawIOBase):
    """A file that only grows, and whose written part can be taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._place += len(part)
        return len(part)

    def drain(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _flat(record: Record) -> Record:
    flat: Record = {}
    for name, value in record.items():
        flat.update({f"{name}_{below}": part for below, part in value.items()} if isinstance(value, dict) else {name: value})
    return flat


def _plain(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def csv_lines(rows: Sequence[Sequence[object]]) -> bytes:
    """Rows as CSV (RFC 4180). Text that a spreadsheet would take for a formula is `guarded`; `unguarded` gives it back."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[cell(value) for value in row] for row in rows])
    return text.getvalue().encode()


def cell(value: object) -> object:
    """A value as a cell of a CSV file."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return guarded(value) if isinstance(value, str) else value


_UNSEEN = r"\s\x00-\x1f\x7f-\xa0\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
_PARTS = r";,\"\t\r\n"
_BEFORE = re.compile(rf"(?<![{_UNSEEN}{_PARTS}'])[{_UNSEEN}{_PARTS}']*+(?=[=+\-@|%\uff1d\uff0b\uff0d\uff20])")
"""All that is blank, a quote, or parts cells, before what begins a formula."""
_PART = re.compile(f"[{_PARTS}]")
_GUARDED_PART = re.compile(f"([{_PARTS}])'")


def guarded(text: str) -> str:
    """`text` with an apostrophe wherever a spreadsheet could see the beginning of a formula.

    That is at its start, blanks or not, and behind whatever parts cells in some country: a program that
    takes the semicolon for the comma reads a file with other cells than ours.
    """

    def guard(before: re.Match[str]) -> str:
        parted = _PART.sub(r"\g<0>'", before[0])
        return parted if before.start() else f"'{parted}"

    return _BEFORE.sub(guard, text)


def unguarded(text: str) -> str:
    """What `guarded` was given."""

    def bare(before: re.Match[str]) -> str:
        return _GUARDED_PART.sub(r"\1", before[0] if before.start() else before[0].removeprefix("'"))

    return _BEFORE.sub(bare, text)
