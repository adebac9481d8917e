"""Model folders that the studio keeps for itself, below `library/students` of its home: copied or uploaded, whole or not at all.

Nothing in them is executed or unpickled: only what an ordinary model folder is made of is taken, by its name's ending, and what
does not look like a model that can be loaded is refused.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import IO

from app.errors import Fault, Invalid, NoRoom
from app.settings import Settings
from opcod.errors import ModelError
from opcod.plain_text import bounded, folder_name, harmless
from opcod.students.facts import student_facts
from opcod.students.references import check_folder
from opcod.training.manifest import sync_folder

FOLDER = "students"
TAKEN = (".json", ".safetensors", ".jinja", ".txt", ".model", ".md")
"""What model folders are made of; all else is left out, and said."""
MOST_FILES = 2_000
ROOM = 256 * 2**20
"""Bytes that stay free on the disk."""
_CHUNK = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """A file to take: its name, its bytes as they come, and how many there are."""

    name: str
    chunks: Iterable[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class KeptFolder:
    """`place` is relative to the library; `left_out` names the files that were not taken."""

    place: str
    left_out: tuple[str, ...]


def keep(settings: Settings, name: str, sources: Iterable[Source], *, field: str) -> KeptFolder:
    """Make a folder of its own of these files.

    Raises:
        Invalid: they are no model that can be loaded; the fault points at `field`.
        NoRoom: the disk is full.
    """
    parent = settings.library_folder / FOLDER
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = parent / f"{folder_name(name)}-{token_hex(3)}"
    draft = parent / f".{target.name}.partial"
    left_out = list[str]()
    try:
        draft.mkdir()
        for count, source in enumerate(sources):
            base = PurePosixPath(source.name.replace("\\", "/")).name
            if count >= MOST_FILES:
                raise Invalid([Fault(field, f"There are more than {MOST_FILES} files.", "Give the model's own folder, without others.")])
            if not base.endswith(TAKEN) or base.startswith(".") or len(base) > 200 or not base.isprintable():
                left_out.append(bounded(harmless(base), 200))
                continue
            if source.size > shutil.disk_usage(parent).free - ROOM:
                raise NoRoom("The disk has no room for it.", "Free space where the studio has its home, then try again.")
            _write(draft / base, source.chunks, field)
        check(draft, name, field, left_out)
        sync_folder(draft)
        draft.rename(target)
        sync_folder(parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return KeptFolder(f"{FOLDER}/{target.name}", tuple(left_out))


def check(folder: Path, name: str, field: str, left_out: Sequence[str] = ()) -> None:
    """See that a folder holds a student that can be loaded, as far as its files tell.

    Raises:
        Invalid
    """
    faults = []
    try:
        check_folder(folder, name)
        stops = [finding for finding in student_facts(folder).findings if finding.severity == "stops"]
        faults = [Fault(field, finding.message, finding.advice) for finding in stops]
    except ModelError as error:
        faults = [Fault(field, error.message, error.advice)]
    except OSError as error:
        faults = [Fault(field, f"The folder cannot be read: {error.strerror or error}.", "Mend its permissions.")]
    if faults and left_out:
        shown = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        faults.append(Fault(field, f"Not taken, because no model folder needs it: {shown}.", "Weights are taken from safetensors alone."))
    if faults:
        raise Invalid(faults)


def of_folder(folder: Path) -> Iterator[Source]:
    """The files of a folder on this machine, links left out: they may lead anywhere."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                yield Source(file.name, _chunks(opened), file.stat().st_size)


def of_upload(name: str, opened: IO[bytes], size: int, *, field: str) -> Iterator[Source]:
    """What was uploaded under this name: a file, or the files of an uncompressed tar, such as one that the studio gave out.

    Raises:
        Invalid: it is no tar although it is called one.
    """
    if not name.lower().endswith(".tar"):
        yield Source(name, _chunks(opened), size)
        return
    with _explained(field), tarfile.open(fileobj=opened, mode="r:") as archive:
        for member in archive:
            part = archive.extractfile(member) if member.isreg() else None
            if part is not None:
                yield Source(member.name, _chunks(part), member.size)


@contextmanager
def _explained(field: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise Invalid([Fault(field, f"The tar file cannot be read: {error}.", "Make it with `tar cf`, uncompressed.")]) from None


def _write(target: Path, chunks: Iterable[bytes], field: str) -> None:
    if target.exists():
        raise Invalid([Fault(field, f"{bounded(target.name, 200)} came twice.", "Give the files of one model folder.")])
    with target.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)


def _chunks(opened: IO[bytes]) -> Iterator[bytes]:
    while chunk := opened.read(_CHUNK):
        yield chunk


def remove(settings: Settings, place: str) -> None:
    """Delete a kept folder; nothing that lies elsewhere."""
    parent = (settings.library_folder / FOLDER).resolve()
    folder = (settings.library_folder / place).resolve()
    if folder.parent == parent:
        shutil.rmtree(folder, ignore_errors=True)
