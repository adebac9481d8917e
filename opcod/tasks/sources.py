"""Reading rows from a source: a JSONL, CSV or Parquet file, or a hub dataset, with a slice if asked for."""

from __future__ import annotations

import csv
import importlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opcod.errors import DataError

MAX_LINE_BYTES = 10 * 1024**2
MAX_FILE_BYTES = 4 * 1024**3
MAX_ROWS = 1_000_000
MAX_COLUMNS = 1_000
_BATCH_ROWS = 1_024

_SLICE = re.compile(r"(?P<source>.*)\[(?P<start>(?:-?\d{1,12})?):(?P<stop>(?:-?\d{1,12})?)\]", re.DOTALL)
_HUB = re.compile(r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<config>[^:\s]+))?:(?P<split>[^:\s]+)", re.ASCII)
"""The hub's own names: with others, such as ``../data``, its library would read folders of this machine."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row by column name, its number in the source from 1, and where it stands, for messages."""

    number: int
    where: str
    values: dict[str, Any]


def split_slice(source: str) -> tuple[str, slice]:
    """``train.jsonl[60:]`` -> (``train.jsonl``, slice(60, None)); a source without a slice is whole."""
    match = _SLICE.fullmatch(source)
    if match is None:
        return source, slice(None)
    start, stop = (int(part) if part else None for part in (match["start"], match["stop"]))
    return match["source"], slice(start, stop)


def read_rows(source: str, *, shown: str | None = None, most_bytes: int = MAX_FILE_BYTES) -> list[Row]:
    """All rows of a source without its slice. Relative paths start at the current folder, ``~`` at home.

    `shown` is what messages call it, if not by its path. Neither the file nor what is unpacked from it may be
    larger than `most_bytes`.

    Raises:
        DataError: the source cannot be found or read; the message names the line where one is at fault.
    """
    shown = shown or source
    if source.startswith("hub:"):
        rows = _hub_rows(source)
    else:
        path = _existing_file(source, shown, most_bytes)
        rows = list(_bounded(_reader(path)(path, shown, most_bytes), shown))
    if not rows:
        raise DataError(f"{shown} is empty.", advice="Give a source with at least one question.")
    return rows


def _bounded(rows: Iterator[Row], shown: str) -> Iterator[Row]:
    for count, row in enumerate(rows, start=1):
        if count > MAX_ROWS:
            raise DataError(f"{shown} has more than {MAX_ROWS:,} rows.", advice="Keep only the rows you need.")
        if len(row.values) > MAX_COLUMNS:
            raise DataError(f"{row.where} has more than {MAX_COLUMNS:,} columns.", advice="Keep only the columns you need.")
        yield row


def _existing_file(source: str, shown: str, most_bytes: int) -> Path:
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise DataError(f"{shown} is a folder.", advice="Give one of the data files in it.")
        if not path.is_file():
            raise DataError(f"There is no file {shown}.", advice=f"Relative paths start at {Path.cwd()}; check the spelling.")
        size = path.stat().st_size
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{shown[:200]!r} cannot be opened: {error}.", advice="Check the path and its permissions.") from None
    if size > most_bytes:
        raise _too_large(shown, most_bytes)
    return path


def _too_large(shown: str, most_bytes: int) -> DataError:
    return DataError(f"{shown} is larger than {most_bytes / 1024**2:,.4g} MiB.", advice="Split it, or keep only the rows you need.")


def _reader(path: Path) -> Callable[[Path, str, int], Iterator[Row]]:
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_lines, ".csv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has no ending that is understood.", advice="Give a .jsonl, .csv or .parquet file.")
    return reader


def _lines(path: Path, shown: str) -> Iterator[tuple[int, str]]:
    """Decoded lines with their numbers, each of bounded length."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(
                        f"{shown}:{number} is longer than {MAX_LINE_BYTES // 1024**2} MiB.", advice="Is this a data file, one row a line?"
                    )
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"{shown}:{number} is not UTF-8 text: {error.reason}.", advice="Save the file as UTF-8.") from None
    except OSError as error:
        raise DataError(f"{shown} cannot be read: {error.strerror or error}.", advice="Check the file and its permissions.") from None


def _json_lines(path: Path, shown: str, _: int) -> Iterator[Row]:
    for number, line in _lines(path, shown):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"{shown}:{number} is no valid JSON: {reason}.", advice="Each line must be one JSON object; mend this one."
            ) from None
        if not isinstance(values, dict):
            raise DataError(
                f"{shown}:{number} is no JSON object.", advice='Each line must be one object, such as {"prompt": ..., "answer": ...}.'
            )
        yield Row(number, f"{shown}:{number}", values)


def _csv_rows(path: Path, shown: str, _: int) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader((line for _, line in _lines(path, shown)), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"{shown}:1 names a column twice.", advice="Give each column its own name.")
        for number, cells in enumerate((cells for cells in reader if cells), start=1):
            where = f"{shown}:{reader.line_num}"
            if len(cells) != len(header):
                raise DataError(f"{where} has {len(cells)} cells, the header {len(header)}.", advice="Quote cells that hold commas.")
            yield Row(number, where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{shown}:{reader.line_num} is no valid CSV: {error}.", advice="Mend this line.") from None


def _parquet_rows(path: Path, shown: str, most_bytes: int) -> Iterator[Row]:
    """A small file may stand for any number of rows of any length: both are known before a row is made."""
    parquet = _library("pyarrow.parquet", "pyarrow")
    arrow = _library("pyarrow", "pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            facts, schema = file.metadata, file.schema_arrow
        if facts.num_rows > MAX_ROWS or len(schema) > MAX_COLUMNS:
            raise DataError(
                f"{shown} has {facts.num_rows:,} rows and {len(schema):,} columns; {MAX_ROWS:,} and {MAX_COLUMNS:,} are allowed.",
                advice="Keep only those you need.",
            )
        if sum(facts.row_group(index).total_byte_size for index in range(facts.num_row_groups)) > most_bytes:
            raise _too_large(f"{shown}, unpacked,", most_bytes)
        texts = [field.name for field in schema if _is_text(arrow.types, field.type)]
        plain = [field.name for field in schema if field.name in texts or _is_small(arrow.types, field.type)]
        others = [name for name in schema.names if name not in plain]
        left, number = most_bytes, 0
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=plain):
                left -= sum(map(_unpacked_bytes, batch.columns))
                if left < 0:
                    raise _too_large(f"{shown}, unpacked,", most_bytes)
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, f"{shown}, row {number}", values | {name: [] for name in others})
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise DataError(f"{shown} is no valid Parquet file: {str(error)[:200]}.", advice="Write it anew.") from None


def _is_text(types: Any, kind: Any) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_small(types: Any, kind: Any) -> bool:
    """Of a few bytes each, such as numbers; what is neither this nor text is not read, and stands as an empty list."""
    return bool(types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind))


def _unpacked_bytes(column: Any) -> int:
    """Of a column as Python has it: what stands in a dictionary once may be meant by every row."""
    if not hasattr(column, "dictionary"):
        return int(column.nbytes)
    compute = _library("pyarrow.compute", "pyarrow")
    lengths = compute.take(compute.binary_length(column.dictionary), column.indices)
    return int(compute.sum(lengths).as_py() or 0)


def _hub_rows(source: str) -> list[Row]:
    match = _HUB.fullmatch(source)
    if match is None:
        raise DataError(f"{source!r} is no hub source.", advice="Write hub:OWNER/NAME:SPLIT or hub:OWNER/NAME@CONFIG:SPLIT.")
    if Path(match["name"]).exists():  # the library would take it for the hub's
        raise DataError(f"{source} is also the name of a folder here.", advice="Name the file in it, or rename the folder.")
    datasets = _library("datasets", "datasets")
    try:
        dataset = datasets.load_dataset(match["name"], match["config"], split=match["split"])
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{source} cannot be loaded from the hub: {str(error)[:300]}",
            advice="Check its name, configuration and split, the network, and your hub token; or download it and give the file.",
        ) from None
    return [Row(number, f"{source}, row {number}", dict(values)) for number, values in enumerate(dataset, start=1)]


def _library(module: str, package: str) -> Any:
    """Loaded by name and only when needed: the web image has neither, and the web app imports this module."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(
            f"Reading this source needs {package}, which is not installed here.", advice=f"Run pip install {package}, or give JSONL."
        ) from None
