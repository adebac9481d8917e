"""What becomes of a student's process that is killed, as the system does when memory runs out."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from opcod.errors import KilledError
from opcod.training.hosts import Hosts


class Broken(Hosts):
    """Hosts whose processes were killed before the call, or under it."""

    def __init__(self, *, before: bool) -> None:
        self.before = before

    def submit(self, student: str, method: str, arguments: tuple[Any, ...]) -> Future[Any]:
        if self.before:
            raise BrokenProcessPool
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool())
        return future

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("before", [True, False])
def test_a_killed_student_is_told_as_such_whenever_it_died(before: bool) -> None:
    with pytest.raises(KilledError, match="ended abruptly"):
        Broken(before=before).ask(("one", "step", ()))
