"""One run's folder on this machine and its copy in the store: checkpoints and exports, both ways. No SQL, no threads of its own.

A checkpoint in the store is its files and then, last, its manifest; a manifest is deleted before the files that only it
names. So what a manifest in the store promises was there, and what was harmed since shows in size or SHA-256. Work is
deterministic by step, hence the newest whole checkpoint of either place is right, whichever machine made it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.artefacts.store import Store, StoreError
from opcod.training.manifest import (
    CONFIG_FILE,
    FOLDER,
    TUTORS,
    FileRecord,
    Keeping,
    Manifest,
    damage,
    hash_files,
    manifest_paths,
    parse_manifest,
    read_manifest,
)

log = logging.getLogger(__name__)

EXPORTS = "exports"
EXPORT_MARK = "config.json"
"""The last file of an export to be stored: an export without it is not whole."""
STAGING = ".upload"
"""Hard links to what is being uploaded: training may delete the checkpoint meanwhile."""


class Cancelled(Exception):  # noqa: N818 (a state of the world, told as such)
    """The worker no longer wants it done."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Which checkpoints there are, by manifest file name, and what everything takes."""

    whole: frozenset[str]
    """In the store: another machine could go on from these."""
    here: frozenset[str]
    """On this machine."""
    size_bytes: int


class Mirror:
    """`keeping` says which checkpoints the store keeps, whatever this machine has.

    `tell` hears, in words, of damaged checkpoints that were passed over. `cancelled` is asked between files.
    """

    def __init__(
        self, store: Store, name: str, folder: Path, *, keeping: Keeping, tell: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        self._store, self._name, self._folder, self._keeping = store, name, folder, keeping
        self._tell, self._cancelled = tell, cancelled
        self._stored: dict[str, Manifest] = {}
        self._suspect: set[str] = set()
        self.damaged: set[str] = set()
        """Manifest file names of checkpoints that were found damaged."""

    def restore(self) -> None:
        """Have the newest whole checkpoint, of the store or of this machine, in the folder, and no damaged one that is newer.

        Raises:
            StoreError
            ResourceError: this machine's disk is full.
            Cancelled
        """
        for path in self._folder.rglob(".*.partial"):
            if path.is_file():  # half fetched by an attempt before this one
                path.unlink(missing_ok=True)
        there = self._store.sizes(self._name)
        self._stored = self._manifests_among(there)
        prefix = f"{FOLDER}/"
        names = {path.removeprefix(prefix) for path in there if self._is_manifest(path)}
        faults: dict[str, str] = {}
        found: Manifest | None = None
        for name in sorted(names | {path.name for path in manifest_paths(self._folder)}, reverse=True):
            found, fault = self._recover(name, there)
            if found is not None:
                break
            faults[name] = fault
        place = f"goes on from the one before, of {found.place}" if found else "starts afresh, as no checkpoint is whole"
        for name, fault in faults.items():
            self._tell(f"{fault}. The run {place}.")
            self._drop(name)
        self.damaged |= set(faults)
        if CONFIG_FILE in there and not (self._folder / CONFIG_FILE).exists():
            self._store.fetch(f"{self._name}/{CONFIG_FILE}", self._folder / CONFIG_FILE, there[CONFIG_FILE])
        named = {path for manifest in self._stored.values() for path in manifest.files}
        left = [path for path in there if path.startswith((prefix, f"{TUTORS}/")) and not self._is_manifest(path) and path not in named]
        self._store.remove([f"{self._name}/{path}" for path in left])  # of an upload that was cut short

    def push(self) -> bool:
        """Store the newest checkpoint that the store should have and has not; returns whether there was one.

        Raises:
            StoreError
            Cancelled
        """
        found = {path.name: manifest for path in manifest_paths(self._folder) if (manifest := read_manifest(path))}
        wanted = self._keeping.choose({**self._stored, **found}) - set(self._stored)
        for name in sorted(wanted, reverse=True):
            if found[name].files:  # earlier versions' name no files; their next one does
                return self._push(name, found[name])
        return False

    def push_exports(self) -> None:
        """Store all exports, each with its configuration last.

        Raises:
            StoreError
            Cancelled
        """
        for folder in sorted(path for path in (self._folder / EXPORTS).glob("*") if path.is_dir() and not path.name.startswith(".")):
            files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: (path.name == EXPORT_MARK, path.name))
            for file in files:
                self._go_on()
                self._store.put(file, f"{self._name}/{file.relative_to(self._folder).as_posix()}")

    def holdings(self) -> Holdings:
        """What there is now.

        Raises:
            StoreError
        """
        there = self._store.sizes(self._name)
        here = frozenset(path.name for path in manifest_paths(self._folder))
        return Holdings(frozenset(self._stored), here, sum(there.values()))

    def _push(self, name: str, manifest: Manifest) -> bool:
        staging = self._folder / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        try:
            sources = {path: _link(self._folder / path, staging / str(place)) for place, path in enumerate(manifest.files)}
            text = (self._folder / FOLDER / name).read_bytes()
        except FileNotFoundError:
            return False  # there is a newer one by now, which has pushed this one out
        try:
            self._upload(name, manifest, sources, text)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self._stored[name] = manifest
        self._prune()
        return True

    def _upload(self, name: str, manifest: Manifest, sources: Mapping[str, Path], text: bytes) -> None:
        config = self._folder / CONFIG_FILE
        if not self._stored and config.exists():
            self._store.put(config, f"{self._name}/{CONFIG_FILE}")
        for other, stored in list(self._stored.items()):
            if any(stored.files.get(path, record) != record for path, record in manifest.files.items()):
                self._drop_stored(other)  # its files are about to be written over
        known = {path: record for stored in self._stored.values() for path, record in stored.files.items()}
        there = self._sizes()
        for path, record in manifest.files.items():
            if known.get(path) != record or there.get(path) != record.size or path in self._suspect:
                self._go_on()
                self._store.put(sources[path], f"{self._name}/{path}")
                self._suspect.discard(path)
        self._go_on()
        there = self._sizes()
        if short := [path for path, record in manifest.files.items() if there.get(path) != record.size]:
            raise StoreError(f"{self._store} did not keep {self._name}/{short[0]} as it was sent.", advice="See to the store.")
        self._store.put_bytes(text, f"{self._name}/{FOLDER}/{name}")

    def _sizes(self) -> dict[str, int]:
        return {f"{part}/{path}": size for part in (FOLDER, TUTORS) for path, size in self._store.sizes(f"{self._name}/{part}").items()}

    def _prune(self) -> None:
        """Delete from the store what is no longer kept: manifests first, then what they alone named."""
        for name in set(self._stored) - self._keeping.choose(self._stored):
            self._drop_stored(name)

    def _drop_stored(self, name: str) -> None:
        self._go_on()
        manifest = self._stored.pop(name, None)
        self._store.remove([f"{self._name}/{FOLDER}/{name}"])
        if manifest is not None:
            named = {path for stored in self._stored.values() for path in stored.files}
            self._store.remove([f"{self._name}/{path}" for path in manifest.files if path not in named])

    def _drop(self, name: str) -> None:
        self._drop_stored(name)
        (self._folder / FOLDER / name).unlink(missing_ok=True)

    def _recover(self, name: str, there: Mapping[str, int]) -> tuple[Manifest | None, str]:
        """The checkpoint, whole on this machine; or what is wrong with it, here and in the store."""
        path = self._folder / FOLDER / name
        here = read_manifest(path)
        fault = damage(self._folder, here) if here else f"Checkpoint {name} cannot be read" if path.exists() else None
        if here is not None and fault is None:
            return here, ""
        told = f"The checkpoint of {here.place} is damaged on this machine: {fault}" if here else fault
        stored = self._stored.get(name)
        if f"{FOLDER}/{name}" not in there:
            return None, told or f"Checkpoint {name} is gone"
        if stored is None:
            return None, f"Checkpoint {name} cannot be read in the store"
        fault = self._fetch(stored, there)
        if fault is not None:
            return None, f"The checkpoint of {stored.place} is damaged in the store: {fault}"
        self._store.fetch(f"{self._name}/{FOLDER}/{name}", path, there[f"{FOLDER}/{name}"])
        if told:
            self._tell(f"{told}. It was taken from the store, where it is whole.")
        return stored, ""

    def _fetch(self, manifest: Manifest, there: Mapping[str, int]) -> str | None:
        """Bring a stored checkpoint's files here; what is wrong with them, or None."""
        for path, record in manifest.files.items():
            if there.get(path) != record.size:
                return f"{path} is missing" if path not in there else f"{path} has {there[path]:,} bytes instead of {record.size:,}"
        missing = [path for path in manifest.files if not _is(self._folder / path, manifest.files[path])]
        for path in missing:
            self._go_on()
            try:
                found = self._store.fetch(f"{self._name}/{path}", self._folder / path, there[path])
            except FileNotFoundError:
                return f"{path} is missing"
            if found != manifest.files[path]:
                self._suspect.add(path)
                return f"{path} has another content than was saved"
        return None

    def _manifests_among(self, there: Collection[str]) -> dict[str, Manifest]:
        found = {}
        for path in there:
            if self._is_manifest(path):
                self._go_on()
                try:
                    manifest = parse_manifest(self._store.read(f"{self._name}/{path}"))
                except FileNotFoundError:
                    continue
                if manifest is not None and manifest.files:
                    found[path.rpartition("/")[2]] = manifest
        return found

    @staticmethod
    def _is_manifest(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return folder == FOLDER and name.startswith("checkpoint-") and name.endswith(".json")

    def _go_on(self) -> None:
        if self._cancelled():
            raise Cancelled


def _link(source: Path, target: Path) -> Path:
    """A second name for a file, or a copy where the file system has no hard links."""
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
    return target


def _is(path: Path, record: FileRecord) -> bool:
    try:
        return path.stat().st_size == record.size and hash_files([path]) == [record.sha256]
    except OSError:
        return False
