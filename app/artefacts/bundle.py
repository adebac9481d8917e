"""A folder of the store as one tar file, made while it is sent: a chunk in memory, whatever the weights' size."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping

from app.artefacts.store import Store

_BLOCK = tarfile.BLOCKSIZE


def tar_size(sizes: Mapping[str, int], root: str) -> int:
    """Bytes of `tar` for files of these sizes."""
    heads = sum(len(_header(f"{root}/{path}", size)) for path, size in sizes.items())
    return heads + sum(size + _padding(size) for size in sizes.values()) + 2 * _BLOCK


def tar(store: Store, prefix: str, sizes: Mapping[str, int], root: str) -> Iterator[bytes]:
    """The files below `prefix`, in a folder called `root`.

    Raises:
        FileNotFoundError: one has gone meanwhile.
        StoreError
    """
    for path, size in sizes.items():
        yield _header(f"{root}/{path}", size)
        yield from store.chunks(f"{prefix}/{path}", size)
        yield bytes(_padding(size))
    yield bytes(2 * _BLOCK)


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> int:
    return -size % _BLOCK
