"""What a checkpoint promises: each of its files with size and SHA-256. Free of torch, so that whoever stores checkpoints can check them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from opcod.types import Evaluation, GateDecision

FOLDER = "checkpoints"
TUTORS = "tutors"
"""Frozen tutors' weights, in the run's folder."""
CONFIG_FILE = "config.yaml"
"""The run's configuration, in its folder since its first event."""
FORMAT = 2
"""Format 1 had neither `files`, `score` nor `seal`; it is read still."""
PATTERN = "checkpoint-*.json"
_HASHERS = 4
"""Files that are hashed at once: SHA-256 of one file keeps one core busy."""


class FileRecord(BaseModel):
    """What a file must be, to be the one that was saved. None: a manifest of format 1 did not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int | None
    """Bytes."""
    sha256: str | None


class StudentState(BaseModel):
    """Where one student's state lies, relative to the run's folder, and the size of its files in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    folder: str
    files: dict[str, int]


class Manifest(BaseModel):
    """A checkpoint: all that a run needs to go on from the given place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    seq: int
    """Number of the checkpoint's own event: later checkpoints have larger ones."""
    config_digest: str
    round: int
    decisions: list[GateDecision]
    evaluations: list[Evaluation]
    students: dict[str, StudentState]
    tutors: dict[str, int]
    """Frozen tutor -> its updates when it was frozen."""
    score: float | None = None
    """Mean validation score of just these weights over students and domains; None where they were not validated."""
    files: dict[str, FileRecord] = {}
    """Every file that the checkpoint needs, by its path relative to the run's folder."""
    seal: str | None = None
    """SHA-256 of all the above: a flipped bit in a number or a name is still good JSON."""

    def sealed(self) -> Manifest:
        """The same, with its seal, as it will be read again."""
        same = Manifest.model_validate_json(self.model_dump_json(exclude={"seal"}))
        return same.model_copy(update={"seal": same._digest()})

    def intact(self) -> bool:
        """Whether it is what was written. Format 1 had no seal."""
        return self.seal == self._digest() if self.format == FORMAT else self.format == 1 and not self.files

    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"seal"}).encode()).hexdigest()

    @property
    def paths(self) -> list[str]:
        """Every file that the checkpoint needs, relative to the run's folder."""
        states = [f"{state.folder}/{name}" for state in self.students.values() for name in state.files]
        return states + [f"{TUTORS}/{tutor_file(name, steps)}" for name, steps in self.tutors.items()]

    def promises(self) -> Mapping[str, FileRecord]:
        """Path -> what must be there, for manifests of every format."""
        sizes = {f"{state.folder}/{name}": size for state in self.students.values() for name, size in state.files.items()}
        return {path: self.files.get(path, FileRecord(size=sizes.get(path), sha256=None)) for path in self.paths}

    @property
    def place(self) -> str:
        """Where the run stood, in words."""
        return f"round {self.round}, step {' and '.join(str(state.steps) for state in self.students.values())}"


@dataclass(frozen=True, slots=True)
class Keeping:
    """Which checkpoints stay, as `RecordingConfig` says it."""

    newest: int
    first: bool = False
    best: bool = False

    def choose(self, manifests: Mapping[str, Manifest]) -> set[str]:
        """File names of those among `manifests` (by file name) that stay."""
        names = sorted(manifests, reverse=True)
        kept = set(names[: max(1, self.newest)])
        if self.first:
            kept |= set(names[-1:])
        scores = {name: score for name in reversed(names) if (score := manifests[name].score) is not None}
        if self.best and scores:
            kept.add(max(scores, key=lambda name: scores[name]))  # of equals, the earliest
        return kept


def manifest_name(seq: int) -> str:
    """File name of the checkpoint with this event number; names sort as the numbers do."""
    return f"checkpoint-{seq:020d}.json"


def tutor_file(name: str, steps: int) -> str:
    """File name of a student's weights, frozen after `steps` updates to be a tutor."""
    return f"{name}-{steps:06d}.safetensors"


def manifest_paths(folder: Path) -> list[Path]:
    """The manifests in a run's folder, newest first; they may be damaged."""
    return sorted((folder / FOLDER).glob(PATTERN), reverse=True)


def parse_manifest(text: str | bytes) -> Manifest | None:
    """The manifest, or None where it is damaged."""
    try:
        manifest = Manifest.model_validate_json(text)
    except (ValidationError, UnicodeDecodeError):
        return None
    return manifest if manifest.intact() else None


def read_manifest(path: Path) -> Manifest | None:
    """The manifest at `path`, or None where it is damaged, unreadable or gone."""
    try:
        return parse_manifest(path.read_bytes())
    except OSError:
        return None


def damage(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the checkpoint's files in a run's folder, in words; None where it is whole.

    Reads every byte: a flipped bit is found, not only a cut.
    """
    promises = manifest.promises()
    for path, promised in promises.items():
        try:
            size = (folder / path).stat().st_size
        except OSError:
            return f"{path} is missing"
        if promised.size is not None and size != promised.size:
            return f"{path} has {size:,} bytes instead of {promised.size:,}"
    hashed = [path for path, promised in promises.items() if promised.sha256 is not None]
    for path, found in zip(hashed, hash_files([folder / path for path in hashed]), strict=True):
        if found != promises[path].sha256:
            return f"{path} has another content than was saved"
    return None


def hash_files(paths: Iterable[Path]) -> list[str | None]:
    """SHA-256 of each file, several at once; None for one that cannot be read."""
    with ThreadPoolExecutor(_HASHERS, thread_name_prefix="sha256") as pool:
        return list(pool.map(_hash, paths))


def record_files(folder: Path, paths: Iterable[str]) -> dict[str, FileRecord]:
    """Size and SHA-256 of files in a run's folder, once they are down on the disk.

    Raises:
        OSError: a file cannot be read or brought to the disk.
    """
    names = list(paths)
    with ThreadPoolExecutor(_HASHERS, thread_name_prefix="sha256") as pool:
        return dict(zip(names, pool.map(lambda name: _record(folder / name), names), strict=True))


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries down to the disk, where the system can."""
    with suppress(OSError):  # not every file system opens folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return FileRecord(size=os.fstat(file.fileno()).st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
