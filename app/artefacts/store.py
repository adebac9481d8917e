"""Where runs' artefacts lie: checkpoints, frozen tutors, exports, logs. A folder, or any place that fsspec reaches, such as S3.

Keys are paths below the store's root: ``000001-1a2b/checkpoints/...``; the store mirrors a run's folder. An object appears
whole or not at all. Credentials come from the usual places of each kind (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...),
never from the URL, so that nothing here can give them away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.settings import Settings
from opcod.errors import ResourceError, UserError
from opcod.training.manifest import FileRecord, sync_folder

CHUNK = 8 * 2**20
"""Bytes that are held in memory at a time while an artefact is read."""
_UPLOADS_AT_ONCE = 4
_S3: dict[str, Any] = {
    "max_concurrency": _UPLOADS_AT_ONCE,
    "default_block_size": 16 * 2**20,
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2, "mode": "standard"}},
}


class StoreError(UserError):
    """The artefact store did not do what it was asked."""

    kind = "store"


class Store:
    """One place for artefacts. Safe to use from several threads."""

    def __init__(self, fs: Any, root: str, shown: str) -> None:
        self._fs, self._root, self._shown = fs, root.rstrip("/"), shown
        self._local = isinstance(fs, LocalFileSystem)
        self._faults = _faults(self._local)

    def __str__(self) -> str:
        return self._shown

    def sizes(self, prefix: str) -> dict[str, int]:
        """Path relative to `prefix` -> bytes, of everything below it. Nothing half-written is among them.

        Raises:
            StoreError
        """
        if self._local:
            return _local_sizes(Path(self._path(prefix)))
        with self._explained(prefix):
            found = self._fs.find(self._path(prefix), detail=True)
        start = len(self._path(prefix)) + 1
        return {path[start:]: int(info["size"]) for path, info in found.items() if len(path) > start}

    def size(self, key: str) -> int:
        """Bytes of an object.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError
        """
        with self._explained(key):
            return int(self._fs.size(self._path(key)))

    def put(self, source: Path, key: str) -> None:
        """Copy a file into the store; the object appears when it is whole.

        Raises:
            StoreError: the store refused, or `source` cannot be read.
        """
        with self._explained(key):
            if self._local:
                with self._draft(key) as draft:
                    shutil.copyfile(source, draft)
            else:
                self._fs.put_file(str(source), self._path(key))

    def put_bytes(self, data: bytes, key: str) -> None:
        """As `put`, for a small object.

        Raises:
            StoreError
        """
        with self._explained(key):
            if self._local:
                with self._draft(key) as draft:
                    draft.write_bytes(data)
            else:
                self._fs.pipe_file(self._path(key), data)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` to `end` of an object.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError
        """
        with self._explained(key):
            data: bytes = self._fs.cat_file(self._path(key), start=start, end=end)
        return data

    def chunks(self, key: str, size: int) -> Iterator[bytes]:
        """An object of `size` bytes in parts of at most `CHUNK`.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: or it has become shorter.
        """
        for start in range(0, size, CHUNK):
            part = self.read(key, start, min(size, start + CHUNK))
            if len(part) != min(size, start + CHUNK) - start:
                raise StoreError(f"{key} in {self} has become shorter while it was read.", advice="Ask again.")
            yield part

    def fetch(self, key: str, target: Path, size: int) -> FileRecord:
        """Copy an object of `size` bytes to a file, which appears when it is whole; returns what was read.

        Raises:
            FileNotFoundError: there is no such object.
            ResourceError: the disk is full or not writable.
            StoreError
        """
        partial = _unfinished(target)
        digest = hashlib.sha256()
        try:
            with explained_local_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                file = partial.open("wb")
            with file:
                for part in self.chunks(key, size):
                    digest.update(part)
                    with explained_local_errors(target):
                        file.write(part)
                with explained_local_errors(target):
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return FileRecord(size=size, sha256=digest.hexdigest())

    def remove(self, keys: Collection[str]) -> None:
        """Delete objects; those that are gone already are no fault.

        Raises:
            StoreError
        """
        for key in keys:
            with self._explained(key), suppress(FileNotFoundError):
                self._fs.rm_file(self._path(key))

    def remove_tree(self, prefix: str) -> None:
        """Delete everything below a prefix.

        Raises:
            StoreError
        """
        if not prefix.strip("/."):
            raise ValueError("the store itself is never removed")
        with self._explained(prefix), suppress(FileNotFoundError):
            self._fs.rm(self._path(prefix), recursive=True)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _draft(self, key: str) -> Iterator[Path]:
        """A file beside the object's place, moved there when it is whole and on the disk."""
        target = Path(self._path(key))
        draft = _unfinished(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield draft
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(target)
            sync_folder(target.parent)
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, StoreError):
            raise
        except self._faults as error:
            reason = str(error).strip() or type(error).__name__
            raise StoreError(
                f"The artefact store {self} failed at {key}: {reason}.",
                advice="See that it answers, that the worker may write there, and that OPCOD_STORE_URL names it.",
            ) from error


def local_store(folder: Path) -> Store:
    """A folder of this machine."""
    return Store(LocalFileSystem(), str(folder), str(folder))


def open_store(settings: Settings) -> Store:
    """The store that the settings name; the folder of all runs where they name none.

    Raises:
        ResourceError: the URL cannot be used.
    """
    if not settings.store_url:
        return local_store(settings.runs_folder)
    kind = urlsplit(settings.store_url).scheme
    options = _S3 if kind == "s3" else {}
    try:
        fs, root = fsspec.core.url_to_fs(settings.store_url, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError:
        raise ResourceError(
            f"Artefacts cannot be kept in {settings.store_url}: s3fs is not installed.", advice="pip install 'opcod-studio[s3]'"
        ) from None
    return Store(fs, root, settings.store_url)


@contextmanager
def explained_local_errors(path: Path) -> Iterator[None]:
    """Turn a failed write on this machine into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{str(path)!r} cannot be written: {error.strerror or error}.",
            advice="Free space on the worker's disk or mend its permissions, then resume the run.",
        ) from error


def _faults(local: bool) -> tuple[type[Exception], ...]:
    if local:
        return (OSError,)
    found: list[type[Exception]] = [OSError, TimeoutError]
    try:
        from aiohttp import ClientError as HttpError
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return tuple(found)
    return (*found, BotoCoreError, ClientError, HttpError)


def _unfinished(target: Path) -> Path:
    """A file beside another, for this thread alone: an attempt that is over may be at the same file still."""
    return target.with_name(f".{target.name}.{os.getpid()}-{threading.get_native_id()}.partial")


def _local_sizes(folder: Path) -> dict[str, int]:
    """What a folder holds, less hidden files, drafts, links (which may lead anywhere), and what vanishes meanwhile."""
    found: dict[str, int] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith(".") or name.endswith(".partial"):
                continue
            path = Path(place) / name
            try:
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    found[path.relative_to(folder).as_posix()] = status.st_size
            except OSError:
                continue
    return found
