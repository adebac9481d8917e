"""Where the students of a run live: all in this process, or each in one of its own, or in a team of processes.

The trainer calls hosts by name and method and gets futures; which of these it is makes no difference
to the results (in a team, none beyond rounding), since every draw is seeded by student and step.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import tempfile
import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from itertools import chain
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from opcod.config import ExperimentConfig
from opcod.errors import KilledError, ResourceError
from opcod.students.bases import Bases
from opcod.students.loading import resolve_device
from opcod.tasks.questions import DomainData
from opcod.training.student_host import HostSettings, StudentHost
from opcod.training.team import ALONE, PATIENCE, Place, ProcessTeam, Team

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
    """Load all students, in as many processes as the configuration says.

    Raises:
        ResourceError: it asks for more GPUs than there are.
    """
    compute = config.compute
    devices = devices_of(config)
    processes = compute.gpus * (len(devices) if compute.side_by_side else 1)
    threads = compute.threads or max(1, available_cores() // processes)
    sharers, spare = sharers_of(config, devices), spare_devices(config, devices)

    def settings(name: str, rank: int) -> HostSettings:
        device = devices[name][rank]
        own = config.with_compute(device=device)
        return HostSettings(own, name, folder, tuple(domains), threads, sharers[device], spare.get(name))

    if processes == 1:
        return LocalHosts({name: settings(name, 0) for name in devices})
    groups = [[name] for name in devices] if compute.side_by_side else [[*devices]]
    return ProcessHosts([[{name: settings(name, rank) for name in group} for rank in range(compute.gpus)] for group in groups])


def devices_of(config: ExperimentConfig) -> dict[str, tuple[str, ...]]:
    """Student -> the devices of the processes that train it: on the CPU, or one GPU, or the first `compute.gpus` of them.

    Side by side, each student has GPUs of its own, in their order, where there are as many and none is named.

    Raises:
        ResourceError: there are fewer GPUs than one student asks for.
    """
    names = [student.name for student in config.students]
    device, gpus, found = config.compute.device, config.compute.gpus, torch.cuda.device_count()
    if gpus > 1 and device != "cpu" and found < gpus:
        raise ResourceError(
            f"The run asks for {gpus} GPUs: torch finds {found} on this machine.",
            advice="Lower compute.gpus, or set compute.device to cpu for as many processes on the CPU.",
            field="compute.gpus",
        )
    apart = config.compute.side_by_side and device in ("auto", "cuda") and found >= gpus * len(names)
    if device == "cpu" or (gpus == 1 and not apart):
        return dict.fromkeys(names, (device,) * gpus)
    firsts = [place * gpus if apart else 0 for place in range(len(names))]
    return {name: tuple(f"cuda:{first + rank}" for rank in range(gpus)) for name, first in zip(names, firsts, strict=True)}


def sharers_of(config: ExperimentConfig, devices: Mapping[str, Sequence[str]]) -> Counter[str]:
    """Device -> the run's processes on it. `devices`: of each student; those of a run in turn live in the same processes."""
    groups = [*devices.values()] if config.compute.side_by_side else [*devices.values()][:1]
    return Counter(chain.from_iterable(groups))


def spare_devices(config: ExperimentConfig, devices: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Student -> the GPU for those that tutor it, where the students leave one and none is named; `devices`: theirs.

    Not for teams, each of which holds its tutors in parts, nor for vLLM, whose one engine has students and tutors take turns.
    """
    compute, found = config.compute, torch.cuda.device_count()
    taken = len({device for each in devices.values() for device in each})
    if compute.device not in ("auto", "cuda") or compute.gpus > 1 or compute.engine == "vllm" or found <= taken:
        return {}
    places = range(len(devices)) if compute.side_by_side else [0] * len(devices)
    return {name: f"cuda:{taken + place % (found - taken)}" for name, place in zip(devices, places, strict=True)}


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalHosts(Hosts):
    """All given students in this process; a call is done when it returns."""

    def __init__(self, settings: Mapping[str, HostSettings], team: Team = ALONE) -> None:
        self.team, bases = team, Bases()
        self.hosts = {name: StudentHost(each, bases, team) for name, each in settings.items()}
        gc.collect()
        gc.freeze()  # what is there now stays: the many small objects of each step would make Python walk through all of it again and again

    def submit(self, student: str, method: str, arguments: tuple[Any, ...]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(getattr(self.hosts[student], method)(*arguments))
        return future

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.hosts.clear()
        gc.unfreeze()


class ProcessHosts(Hosts):
    """Teams of processes; the students of a team live in each of its processes, and its first one's answers count.

    `teams` has for each team, and in it for each process, what its students' hosts are made from.
    """

    def __init__(self, teams: Sequence[Sequence[Mapping[str, HostSettings]]], patience: timedelta = PATIENCE) -> None:
        context = multiprocessing.get_context("spawn")
        self._meetings = tempfile.TemporaryDirectory(prefix="opcod-team-")
        self._pools = [
            [ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_live_with_parent) for _ in team] for team in teams
        ]
        self._team_of = {name: pools for team, pools in zip(teams, self._pools, strict=True) for name in team[0]}
        self._processes: set[int] = set()
        try:
            with _explained_deaths():
                starting = [pool.submit(os.getpid) for pools in self._pools for pool in pools]
                self._processes = {future.result() for future in starting}
                loading = [
                    _first_answer(
                        [
                            pool.submit(_load_hosts, each, rank, len(team), Path(self._meetings.name) / str(number), patience)
                            for rank, (pool, each) in enumerate(zip(pools, team, strict=True))
                        ]
                    )
                    for number, (pools, team) in enumerate(zip(self._pools, teams, strict=True))
                ]
                for loaded in loading:
                    loaded.result()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def submit(self, student: str, method: str, arguments: tuple[Any, ...]) -> Future[Any]:
        return _first_answer([pool.submit(_call_host, student, method, arguments) for pool in self._team_of[student]])

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:  # what failed in one process of a team, the others may wait for
            for process in multiprocessing.active_children():
                if process.pid in self._processes:
                    process.kill()
        for pools in self._pools:
            for pool in pools:
                pool.shutdown(wait=True, cancel_futures=True)
        self._meetings.cleanup()


def _first_answer(futures: Sequence[Future[Any]]) -> Future[Any]:
    """The first process's answer, once all have one; or at once what goes wrong in any."""
    if len(futures) == 1:
        return futures[0]
    answer: Future[Any] = Future()
    lock = threading.Lock()
    left = len(futures)

    def take(future: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if answer.done():
                return
            if future.cancelled():
                answer.cancel()
            elif error := future.exception():
                answer.set_exception(error)
            elif not left:
                answer.set_result(futures[0].result())

    for future in futures:
        future.add_done_callback(take)
    return answer


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


_hosts: LocalHosts | None = None


def _live_with_parent() -> None:
    """Leave Ctrl-C and SIGTERM to the trainer, and end at once when it is gone, however it ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()


def _load_hosts(settings: Mapping[str, HostSettings], rank: int, size: int, meeting: Path, patience: timedelta) -> None:
    global _hosts
    team = ALONE
    if size > 1:
        config = next(iter(settings.values())).config  # all students of a process are on its device
        team = ProcessTeam(Place(rank, size, meeting, resolve_device(config.compute.device), patience))
    _hosts = LocalHosts(settings, team)


def _call_host(student: str, method: str, arguments: tuple[Any, ...]) -> Any:
    assert _hosts is not None
    (answer,) = _hosts.ask((student, method, arguments))
    return answer if _hosts.team.rank == 0 else None
