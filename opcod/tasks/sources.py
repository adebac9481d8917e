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


def read_rows(source: str) -> list[Row]:
    """All rows of a source without its slice. Relative paths start at the current folder, ``~`` at home.

    Raises:
        DataError: the source cannot be found or read; the message names the line where one is at fault.
    """
    if source.startswith("hub:"):
        rows = _hub_rows(source)
    else:
        path = _existing_file(source)
        rows = list(_reader(path)(path))
    if not rows:
        raise DataError(f"{source} is empty.", advice="Give a source with at least one question.")
    return rows


def _existing_file(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise DataError(f"{source} is a folder.", advice="Give one of the data files in it.")
        if not path.is_file():
            raise DataError(f"There is no file {source}.", advice=f"Relative paths start at {Path.cwd()}; check the spelling.")
        size = path.stat().st_size
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{source[:200]!r} cannot be opened: {error}.", advice="Check the path and its permissions.") from None
    if size > MAX_FILE_BYTES:
        raise DataError(f"{source} is larger than {MAX_FILE_BYTES // 1024**3} GiB.", advice="Split it, or keep only the rows you need.")
    return path


def _reader(path: Path) -> Callable[[Path], Iterator[Row]]:
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_lines, ".csv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has no ending that is understood.", advice="Give a .jsonl, .csv or .parquet file.")
    return reader


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Decoded lines with their numbers, each of bounded length."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(
                        f"{path}:{number} is longer than {MAX_LINE_BYTES // 1024**2} MiB.", advice="Is this a data file, one row a line?"
                    )
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"{path}:{number} is not UTF-8 text: {error.reason}.", advice="Save the file as UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", advice="Check the file and its permissions.") from None


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"{path}:{number} is no valid JSON: {reason}.", advice="Each line must be one JSON object; mend this one."
            ) from None
        if not isinstance(values, dict):
            raise DataError(
                f"{path}:{number} is no JSON object.", advice='Each line must be one object, such as {"prompt": ..., "answer": ...}.'
            )
        yield Row(number, f"{path}:{number}", values)


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"{path}:1 names a column twice.", advice="Give each column its own name.")
        for number, cells in enumerate((cells for cells in reader if cells), start=1):
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise DataError(f"{where} has {len(cells)} cells, the header {len(header)}.", advice="Quote cells that hold commas.")
            yield Row(number, where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num} is no valid CSV: {error}.", advice="Mend this line.") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    parquet = _library("pyarrow.parquet", "pyarrow")
    arrow = _library("pyarrow", "pyarrow")
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is no valid Parquet file: {str(error)[:200]}.", advice="Write it anew.") from None
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(number, f"{path}, row {number}", values)


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
