"""Where students live, and what becomes of a student's process that is killed, as the system does when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import torch

from opcod.config import load_preset, merge, parse_config
from opcod.errors import KilledError
from opcod.training import hosts
from opcod.training.hosts import Hosts, open_hosts


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


@pytest.mark.parametrize(
    ("found", "compute", "expected"),
    [
        (2, {"side_by_side": True, "device": "auto"}, ["cuda:0", "cuda:1"]),
        (4, {"side_by_side": True, "device": "cuda"}, ["cuda:0", "cuda:1"]),
        (1, {"side_by_side": True, "device": "auto"}, ["auto", "auto"]),
        (2, {"side_by_side": True, "device": "cuda:1"}, ["cuda:1", "cuda:1"]),
        (2, {"side_by_side": True, "device": "cpu"}, ["cpu", "cpu"]),
        (2, {"side_by_side": False, "device": "auto"}, ["auto", "auto"]),
    ],
)
def test_each_process_has_a_gpu_of_its_own_where_there_are_as_many(
    found: int, compute: dict[str, Any], expected: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, tuple[Any, ...]]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    monkeypatch.setattr(hosts, "ProcessHosts", opened.append)
    monkeypatch.setattr(hosts, "LocalHosts", opened.append)
    open_hosts(parse_config(merge(load_preset("tiny"), {"compute": compute})), Path(), ())
    assert {name: given[0].compute.device for name, given in opened[0].items()} == dict(
        zip(("student1", "student2"), expected, strict=True)
    )
