"""The file of a backup: written whole or not at all, in constant memory, and checked before it is believed."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from opcod.errors import DataError

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"
PART = 1 << 20
_LARGEST_MANIFEST = 256 << 20


class TableNote(BaseModel):
    """What the manifest says of one table."""

    columns: list[str]
    rows: int


class Manifest(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    schema_version: str
    """The database's newest migration when it was made."""
    made_at: datetime
    made_from: str
    """`sqlite` or `postgresql`."""
    tables: dict[str, TableNote]
    """In an order in which no row comes before what it refers to."""
    counters: dict[str, int]
    """Table -> the highest id that was ever given out."""
    sha256: dict[str, str]
    """Of every other member."""

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables.values())

    @property
    def artefacts(self) -> int:
        """How many files of runs it holds."""
        return sum(name.startswith("artefacts/") for name in self.sha256)


class ArchiveWriter:
    """Adds members and keeps their checksums."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self.sha256: dict[str, str] = {}

    def add(self, name: str, parts: Iterable[bytes], *, compress: bool = True) -> None:
        """One member, from its parts."""
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        digest = hashlib.sha256()
        with self._file.open(entry, "w", force_zip64=True) as member:
            for part in parts:
                digest.update(part)
                member.write(part)
        self.sha256[name] = digest.hexdigest()

    def close(self, manifest: Manifest) -> None:
        """The manifest goes last: an archive that has one is whole."""
        self._file.writestr(MANIFEST, manifest.model_dump_json(indent=1))


@contextmanager
def writing_archive(path: Path) -> Iterator[ArchiveWriter]:
    """A new archive, readable by its owner alone; it appears at `path` once it is whole and on the disk."""
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                yield ArchiveWriter(archive)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def reading_archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, Manifest]]:
    """An archive and what it holds.

    Raises:
        DataError: it is none of ours, or was cut short.
    """
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise DataError(f"The backup {path} cannot be read: {error.strerror}.") from None
    except zipfile.BadZipFile:
        raise DataError(f"{path} is no backup, or was cut short.", advice="Use another copy of it.") from None
    with archive:
        yield archive, _manifest(path, archive)


def read_manifest(path: Path) -> Manifest:
    """What the backup holds.

    Raises:
        DataError: it is none of ours, or was cut short.
    """
    with reading_archive(path) as (_, manifest):
        return manifest


def check(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """Read everything once, and compare it with its checksums.

    Raises:
        DataError: a member is damaged or missing.
    """
    for name, wanted in manifest.sha256.items():
        digest = hashlib.sha256()
        try:
            with archive.open(name) as member:
                for part in parts(member):
                    digest.update(part)
        except (KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"The backup {path} is damaged: {name}: {error}.", advice="Use another copy of it.") from None
        if digest.hexdigest() != wanted:
            raise DataError(f"The backup {path} is damaged: {name} is not what was written.", advice="Use another copy of it.")


def lines(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """A member's lines."""
    with archive.open(name) as member:
        yield from member


def parts(file: IO[bytes]) -> Iterator[bytes]:
    """All of a file."""
    while part := file.read(PART):
        yield part


def _manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    try:
        if archive.getinfo(MANIFEST).file_size > _LARGEST_MANIFEST:
            raise DataError(f"{path} is no backup: its manifest is too large.")
        return Manifest.model_validate_json(archive.read(MANIFEST))
    except (KeyError, ValidationError, zipfile.BadZipFile) as error:
        why = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else "it has no readable manifest"
        raise DataError(
            f"{path} is no backup that this version can read: {why}.", advice="Name a file that `opcod backup` made, or upgrade."
        ) from None
