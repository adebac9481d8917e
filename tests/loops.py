"""Coroutines from tests that do not await: in a thread of their own, since Playwright keeps a loop running in the main one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio

T = TypeVar("T")


def run(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """What `function` comes to."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, function, *arguments).result()
