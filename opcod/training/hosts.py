"""Where the students of a run live: all in this process, or each in one of its own.

The trainer calls hosts by name and method and gets futures; which of the two it is makes no difference
to the results, since every draw is seeded by student and step.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from opcod.config import ExperimentConfig
from opcod.errors import KilledError
from opcod.students.bases import Bases
from opcod.tasks.questions import DomainData
from opcod.training.student_host import StudentHost

Call = tuple[str, str, tuple[Any, ...]]
"""(student, method of `StudentHost`, arguments)."""


class Hosts(AbstractContextManager["Hosts"]):
    """The students of a run."""

    def ask(self, *calls: Call) -> list[Any]:
        """Make all calls at once, as far as the hosts allow, and wait for their results, in order.

        Raises:
            KilledError: a student's process was killed, most often for want of memory.
        """
        with _explained_deaths():
            futures = [self.submit(*call) for call in calls]
            return [future.result() for future in futures]

    @abstractmethod
    def submit(self, student: str, method: str, arguments: tuple[Any, ...]) -> Future[Any]:
        """Ask a student's host; calls to one student run in order."""


def open_hosts(config: ExperimentConfig, folder: Path, domains: Sequence[DomainData]) -> Hosts:
    """Load all students, in as many processes as the configuration says."""
    side_by_side = config.compute.side_by_side
    threads = config.compute.threads or max(1, available_cores() // (len(config.students) if side_by_side else 1))

    def arguments(name: str, device: str) -> tuple[Any, ...]:
        own = config.model_copy(update={"compute": config.compute.model_copy(update={"device": device})})
        return own, name, folder, tuple(domains), threads

    devices = devices_of(config)
    if side_by_side:
        return ProcessHosts({name: arguments(name, device) for name, device in devices.items()})
    bases = Bases()
    return LocalHosts({name: (*arguments(name, device), bases) for name, device in devices.items()})


def devices_of(config: ExperimentConfig) -> dict[str, str]:
    """Student -> device: side by side, a GPU for each in their order where there are as many and none is named; else the configured one."""
    names = [student.name for student in config.students]
    device = config.compute.device
    if config.compute.side_by_side and device in ("auto", "cuda") and torch.cuda.device_count() >= len(names):
        return {name: f"cuda:{place}" for place, name in enumerate(names)}
    return dict.fromkeys(names, device)


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalHosts(Hosts):
    """All students in this process; a call is done when it returns."""

    def __init__(self, arguments: dict[str, tuple[Any, ...]]) -> None:
        self.hosts = {name: StudentHost(*each) for name, each in arguments.items()}

    def submit(self, student: str, method: str, arguments: tuple[Any, ...]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(getattr(self.hosts[student], method)(*arguments))
        return future

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.hosts.clear()


class ProcessHosts(Hosts):
    """One process a student."""

    def __init__(self, arguments: dict[str, tuple[Any, ...]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pools = {name: ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_live_with_parent) for name in arguments}
        try:
            with _explained_deaths():
                loading = [self.pools[name].submit(_load_host, each) for name, each in arguments.items()]
                for future in loading:
                    future.result()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def submit(self, student: str, method: str, arguments: tuple[Any, ...]) -> Future[Any]:
        return self.pools[student].submit(_call_host, method, arguments)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pool in self.pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _explained_deaths() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise KilledError(
            "A student's process ended abruptly, as it does when the system runs out of memory.",
            advice="Lower the batch sizes, or turn off compute.side_by_side; then resume from the last checkpoint.",
            field="compute.side_by_side",
        ) from None


_host: StudentHost | None = None


def _live_with_parent() -> None:
    """Leave Ctrl-C and SIGTERM to the trainer, and end at once when it is gone, however it ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()


def _load_host(arguments: tuple[Any, ...]) -> None:
    global _host
    _host = StudentHost(*arguments)


def _call_host(method: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_host, method)(*arguments)
