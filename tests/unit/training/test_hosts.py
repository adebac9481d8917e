"""Where students live, and what becomes of a student's process that is killed, as the system does when memory runs out."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from opcod.config import load_preset, merge, parse_config
from opcod.errors import ConfigError, KilledError, ResourceError
from opcod.sinks import JsonLinesSink
from opcod.tasks.questions import load_domains
from opcod.training import hosts, student_host
from opcod.training.hosts import Hosts, ProcessHosts, devices_of, open_hosts, sharers_of, spare_devices
from opcod.training.student_host import HostSettings, StudentHost
from opcod.training.trainer import train
from tests.integration.training_runs import StopAfter, tiny


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


def test_what_is_loaded_is_left_to_itself_by_the_garbage_collector_as_long_as_the_hosts_are_open(tmp_path: Path) -> None:
    config = tiny()
    with open_hosts(config, tmp_path, load_domains(config.domains)):
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("found", "compute", "first", "second", "sharers"),
    [
        (2, {"side_by_side": True, "device": "auto"}, ["cuda:0"], ["cuda:1"], 1),
        (4, {"side_by_side": True, "device": "cuda"}, ["cuda:0"], ["cuda:1"], 1),
        (1, {"side_by_side": True, "device": "auto"}, ["auto"], ["auto"], 2),
        (2, {"side_by_side": True, "device": "cuda:1"}, ["cuda:1"], ["cuda:1"], 2),
        (2, {"side_by_side": True, "device": "cpu"}, ["cpu"], ["cpu"], 2),
        (2, {"side_by_side": False, "device": "auto"}, ["auto"], ["auto"], 1),
        (4, {"side_by_side": False, "device": "auto", "gpus": 2}, ["cuda:0", "cuda:1"], ["cuda:0", "cuda:1"], 1),
        (4, {"side_by_side": True, "device": "cuda", "gpus": 2}, ["cuda:0", "cuda:1"], ["cuda:2", "cuda:3"], 1),
        (3, {"side_by_side": True, "device": "cuda", "gpus": 2}, ["cuda:0", "cuda:1"], ["cuda:0", "cuda:1"], 2),
        (0, {"side_by_side": False, "device": "cpu", "gpus": 2}, ["cpu", "cpu"], ["cpu", "cpu"], 2),
    ],
)
def test_each_process_has_a_gpu_of_its_own_where_there_are_as_many(
    found: int, compute: dict[str, Any], first: Sequence[str], second: Sequence[str], sharers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    config = parse_config(merge(load_preset("tiny"), {"compute": compute}))
    devices = devices_of(config)
    assert devices == {"student1": tuple(first), "student2": tuple(second)}
    assert set(sharers_of(config, devices).values()) == {sharers}


@pytest.mark.parametrize(
    ("found", "compute", "first", "second"),
    [
        (1, {"side_by_side": False, "device": "auto"}, None, None),
        (2, {"side_by_side": False, "device": "auto"}, "cuda:1", "cuda:1"),
        (2, {"side_by_side": True, "device": "auto"}, None, None),
        (3, {"side_by_side": True, "device": "cuda"}, "cuda:2", "cuda:2"),
        (4, {"side_by_side": True, "device": "cuda"}, "cuda:2", "cuda:3"),
        (4, {"side_by_side": False, "device": "cuda:0"}, None, None),
        (4, {"side_by_side": False, "device": "cpu"}, None, None),
        (4, {"side_by_side": False, "device": "auto", "gpus": 2}, None, None),
        (4, {"side_by_side": False, "device": "auto", "engine": "vllm"}, None, None),
    ],
)
def test_tutors_have_a_gpu_that_the_students_leave(
    found: int, compute: dict[str, Any], first: str | None, second: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    config = parse_config(merge(load_preset("tiny"), {"compute": compute}))
    spare = spare_devices(config, devices_of(config))
    assert (spare.get("student1"), spare.get("student2")) == (first, second)


def test_a_tutor_is_loaded_where_it_is_to_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here has a second device: what is asked for is noted, and the CPU given."""
    asked: list[str] = []

    def resolve(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(student_host, "resolve_device", resolve)
    config = parse_config(load_preset("tiny"))
    domains = tuple(load_domains(config.domains))
    ann, bob = (StudentHost(HostSettings(config, name, tmp_path, domains, 1, tutor_device="cuda:1")) for name in ("student1", "student2"))
    assert set(asked) == {"cpu"}
    bob.freeze_tutor()
    ann.begin_phase([], {}, {"student2": 0})
    assert asked[-1] == "cuda:1"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_more_gpus_than_there_are_is_told_before_anything_is_loaded(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        JsonLinesSink(tmp_path / "events.jsonl") as sink,
        pytest.raises(ResourceError, match="asks for 4 GPUs: torch finds 1") as told,
    ):
        train(tiny(compute={"gpus": 4, "device": device}), tmp_path / "run", sink, StopAfter())
    assert told.value.field == "compute.gpus"
    assert not (tmp_path / "run").exists()


def test_one_named_gpu_is_not_several() -> None:
    with pytest.raises(ConfigError, match="names one GPU") as told:
        tiny(compute={"gpus": 2, "device": "cuda:1"})
    assert told.value.field == "compute.gpus"


def test_vllm_samples_on_one_gpu() -> None:
    with pytest.raises(ConfigError, match="vllm samples on one GPU") as told:
        tiny(compute={"gpus": 2, "device": "cuda", "engine": "vllm"}, generation={"top_p": 1})
    assert told.value.field == "compute.engine"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_process_that_is_lost_ends_its_team(number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "ProcessHosts", partial(ProcessHosts, patience=timedelta(seconds=15)))
    config = tiny(compute={"gpus": 2, "device": "cpu", "threads": 1})
    processes: list[BaseProcess] = []

    def lose_one() -> None:
        with open_hosts(config, tmp_path, load_domains(config.domains)) as team:
            processes.extend(child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess"))
            os.kill(processes[-1].pid or 0, number)
            team.ask(("student1", "evaluate", (0, "validation")))

    with pytest.raises(KilledError):
        lose_one()
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


HOLD = """
import pathlib, sys
from opcod.tasks.questions import load_domains
from opcod.training.hosts import open_hosts
from tests.integration.training_runs import tiny

if __name__ == "__main__":
    config = tiny(compute={"gpus": 2, "device": "cpu", "threads": 1})
    with open_hosts(config, pathlib.Path(sys.argv[1]), load_domains(config.domains)):
        print("open", flush=True)
        sys.stdin.read()
"""


@pytest.mark.slow
def test_a_team_does_not_outlive_its_trainer(tmp_path: Path) -> None:
    """Its processes hold the trainer's output open, which ends with the last of them."""
    script = tmp_path / "hold.py"
    script.write_text(HOLD)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as trainer:
        assert trainer.stdout is not None
        try:
            assert trainer.stdout.readline() == b"open\n"
            trainer.kill()
            said, _ = trainer.communicate(timeout=60)
            assert said == b""
        finally:
            with suppress(ProcessLookupError):
                os.killpg(trainer.pid, signal.SIGKILL)
