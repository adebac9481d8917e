"""One run by all processes that torchrun starts, on one machine or several: they are one team, and the first runs the trainer.

The others load the same students and make the calls that the first tells them of. What they tell each other is pickled, and
they trust each other: the network between them must be theirs.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from opcod.config import ExperimentConfig, merge, parse_config
from opcod.errors import ConfigError, ResourceError
from opcod.students.loading import resolve_device
from opcod.tasks.questions import DomainData
from opcod.training.checkpoints import explained_disk_errors
from opcod.training.hosts import Hosts, LocalHosts, available_cores
from opcod.training.student_host import HostSettings
from opcod.training.team import PATIENCE, Place, ProcessTeam, explained_silence

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process that it starts."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of `size` processes of a run, and the `local_rank`-th (from 0) of its machine's `local_size`."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    def fit(self, config: ExperimentConfig) -> ExperimentConfig:
        """The configuration with as many `compute.gpus` as torchrun has started processes.

        Raises:
            ConfigError: it asks for another number of them, or for what such a run cannot do.
        """
        compute = config.compute
        if compute.gpus not in (1, self.size):
            raise ConfigError(
                f"compute.gpus is {compute.gpus}, and torchrun started {self.size} processes.",
                advice="Leave compute.gpus at 1, then torchrun alone decides; or give it the same number.",
                field="compute.gpus",
            )
        if compute.side_by_side:
            raise ConfigError(
                "Under torchrun all processes train one student after another.",
                advice="Turn off compute.side_by_side; or start the run without torchrun, on one machine.",
                field="compute.side_by_side",
            )
        return parse_config(merge(config.model_dump(mode="json"), {"compute": {"gpus": self.size}}))

    def join(self) -> None:
        """Wait until all are there.

        Raises:
            KilledError: one of them ended, or did not come in time.
        """
        with explained_silence():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)

    def device(self, wanted: str) -> torch.device:
        """The device of this process where `compute.device` is `wanted`.

        Raises:
            ResourceError: the machine has fewer GPUs than processes.
        """
        found = resolve_device(wanted)
        if found.type == "cpu":
            return found
        if torch.cuda.device_count() < self.local_size:
            raise ResourceError(
                f"torchrun started {self.local_size} processes on this machine: torch finds {torch.cuda.device_count()} GPUs.",
                advice="Lower --nproc-per-node, or set compute.device to cpu.",
                field="compute.device",
            )
        return torch.device("cuda", self.local_rank)


def launched(environment: Mapping[str, str] = os.environ) -> Member | None:
    """Where this process stands among those that torchrun started; None where there is no other, or no torchrun."""
    if any(name not in environment for name in VARIABLES):
        return None
    rank, local_rank, size = (int(environment[name]) for name in VARIABLES[:3])
    if size == 1:
        return None
    return Member(rank, size, local_rank, int(environment.get("LOCAL_WORLD_SIZE", local_rank + 1)))


class FirstHosts(Hosts):
    """The students of the first process, which has every other do with its own what it does with these.

    All must have joined; the others `follow`. An error here is told to nobody: this process ends, and those who wait for it hear so.
    """

    def __init__(self, member: Member, config: ExperimentConfig, folder: Path, domains: Sequence[DomainData]) -> None:
        marker = folder.resolve() / f".team-{uuid.uuid4().hex}"
        try:
            with explained_disk_errors(marker):
                marker.touch()
            self._own = _load(member, _tell((config, marker, tuple(domains))))
        finally:
            marker.unlink(missing_ok=True)

    def submit(self, student: str, method: str, arguments: tuple[Any, ...]) -> Future[Any]:
        return _call(self._own, _tell((student, method, arguments)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:  # else the others may be waiting for something else
            _tell(None)


def follow(member: Member) -> None:
    """Do as the first process does, until its run is done.

    Raises:
        UserError: what the first would raise; or it, or another, ended with an error.
    """
    hosts = _load(member, _tell(None))
    while (call := _tell(None)) is not None:
        _call(hosts, call)


def leave() -> NoReturn:
    """End a process that is done, at once and well: torch's threads for the others now and then abort as they are torn down."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _tell(value: Any) -> Any:
    """What the first process gives here, in all of them."""
    told = [value]
    with explained_silence():
        dist.broadcast_object_list(told, src=0)
    return told[0]


def _load(member: Member, given: tuple[ExperimentConfig, Path, tuple[DomainData, ...]]) -> LocalHosts:
    config, marker, domains = given
    device = member.device(config.compute.device)
    team = ProcessTeam(Place(member.rank, member.size, None, device))
    if not all(team.gather(marker.exists())):
        raise ResourceError(
            f"Not all machines of the run see the same folder {str(marker.parent)!r}: its checkpoints and frozen tutors are read by all.",
            advice="Give a --folder on a disk that all of them have mounted at the same path.",
        )
    own = config.with_compute(device=str(device))
    threads = config.compute.threads or max(1, available_cores() // member.local_size)
    sharers = member.local_size if device.type == "cpu" else 1
    names = [student.name for student in config.students]
    return LocalHosts({name: HostSettings(own, name, marker.parent, domains, threads, sharers) for name in names}, team)


def _call(hosts: LocalHosts, call: tuple[str, str, tuple[Any, ...]]) -> Future[Any]:
    """Done when all have done it."""
    answer = hosts.submit(*call)
    hosts.team.gather(None)
    return answer
