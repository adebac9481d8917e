"""Where uploads and the domains made of them lie: in folders of the library that appear whole and never change.

library/uploads/TOKEN/train.csv ...                the files as they were brought
library/domains/NAME-TOKEN/train.jsonl ...         three splits, as training reads them
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from app.errors import Fault, Invalid, NoRoom
from opcod.errors import DataError
from opcod.plain_text import bounded, storable
from opcod.tasks.columns import ColumnSurvey, survey
from opcod.tasks.sources import Row, read_rows
from opcod.training.manifest import sync_folder
from opcod.types import Split

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
LONGEST_NAME = 120
ABANDONED_SECONDS = 86_400
"""After so long nobody writes to an unfinished folder any more."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A file on its way in."""

    name: str
    file: IO[bytes]


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that arrived, and was read once from beginning to end."""

    split: Split
    name: str
    """For people; nothing on disk is called so."""
    stored: str
    size_bytes: int
    rows: int
    columns: tuple[ColumnSurvey, ...]


def receive(uploads: Path, sent: Mapping[Split, Sent], most_bytes: int) -> tuple[str, list[Stored], dict[Split, list[Row]]]:
    """Store files and read them: their folder's name, what they are, and their rows.

    Raises:
        Invalid: a file cannot be read as rows; one fault a file, with its line. Nothing is left of any.
        NoRoom: the disk is full.
    """
    faults: list[Fault] = []
    found: list[Stored] = []
    rows: dict[Split, list[Row]] = {}
    with new_folder(uploads, token_hex(8)) as folder:
        for split, one in sent.items():
            name = display_name(one.name)
            ending = Path(name).suffix.lower()
            if ending not in ENDINGS:
                faults.append(Fault(split, f"{name} has no ending that is understood.", "Give a .jsonl, .csv or .parquet file."))
                continue
            path = folder / f"{split}{ending}"
            with path.open("xb") as target:
                shutil.copyfileobj(one.file, target, 1 << 20)
                _sync(target)
            try:
                rows[split] = _with_cells(read(path, name, most_bytes), name)
            except DataError as error:
                faults.append(Fault(split, error.message, error.advice))
                continue
            found.append(Stored(split, name, path.name, path.stat().st_size, len(rows[split]), survey(rows[split])))
        if faults:
            raise Invalid(faults)
    return folder.name.removeprefix("."), found, rows


def _with_cells(rows: list[Row], name: str) -> list[Row]:
    """The rows, unless a table was separated by something else than commas.

    Raises:
        DataError
    """
    columns = list(rows[0].values)
    if len(columns) == 1 and name.lower().endswith(".csv") and (";" in columns[0] or "\t" in columns[0]):
        raise DataError(f"{name}:1 is a single cell, {columns[0][:60]!r}.", advice="Save it with commas between cells.")
    return rows


def read(path: Path, name: str, most_bytes: int) -> list[Row]:
    """Rows of a stored file; messages call it by its `name`.

    Raises:
        DataError: naming the line at fault.
    """
    return read_rows(str(path), shown=name, most_bytes=most_bytes)


@contextmanager
def written(domains: Path, folder: str, splits: Mapping[Split, Iterable[str]]) -> Iterator[Path]:
    """Three files of lines in a new folder. Within, only we know of it, by the path that is given; it appears when all went well.

    Raises:
        NoRoom: the disk is full.
    """
    with new_folder(domains, folder) as draft:
        for split, lines in splits.items():
            with (draft / f"{split}.jsonl").open("x", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
                _sync(file)
        yield draft


@contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder to fill under a hidden name. It gets its own when all went well, and is removed otherwise.

    Raises:
        NoRoom: the disk is full.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear_abandoned(parent)
    draft = parent / f".{name}"
    try:
        draft.mkdir(mode=0o700)
        yield draft
        sync_folder(draft)
        draft.rename(parent / name)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom("The disk with the library is full.", "Free some space and try again; nothing was kept.") from None
        raise
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def remove(folder: Path) -> None:
    """A folder and all that is in it; it is no fault if it is gone already."""
    shutil.rmtree(folder, ignore_errors=True)


def display_name(name: str) -> str:
    """A file's name as a browser sent it, without folders and of bounded length; its ending stays."""
    plain = Path(storable(name).replace("\\", "/")).name or "file"
    ending = Path(plain).suffix[:20]
    return bounded(plain.removesuffix(ending), LONGEST_NAME) + ending


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _clear_abandoned(parent: Path) -> None:
    for folder in parent.glob(".*"):
        if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            remove(folder)
