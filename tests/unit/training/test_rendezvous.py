"""What a process takes from torchrun's environment, and which configurations it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from opcod.errors import ConfigError, ResourceError
from opcod.training import rendezvous
from opcod.training.rendezvous import Member, launched
from opcod.training.team import Place, Team
from tests.integration.training_runs import tiny

TOLD = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "first", "MASTER_PORT": "29500"}
MEMBER = Member(5, 8, 1, 4)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        (TOLD, MEMBER),
        ({name: value for name, value in TOLD.items() if name != "MASTER_PORT"}, None),
        ({**TOLD, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, None),
        ({}, None),
    ],
    ids=["one of eight", "another's variables", "one alone", "no torchrun"],
)
def test_a_member_knows_its_place(environment: Mapping[str, str], found: Member | None) -> None:
    assert launched(environment) == found


@pytest.mark.parametrize("asked", [1, 8])
def test_torchrun_says_how_many(asked: int) -> None:
    assert MEMBER.fit(tiny(compute={"gpus": asked})) == tiny(compute={"gpus": 8})


@pytest.mark.parametrize(
    ("compute", "field", "message"),
    [
        ({"gpus": 4}, "compute.gpus", "compute.gpus is 4, and torchrun started 8 processes"),
        ({"side_by_side": True}, "compute.side_by_side", "one student after another"),
        ({"device": "cuda:1"}, "compute.gpus", "names one GPU"),
    ],
)
def test_what_contradicts_torchrun_is_told(compute: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        MEMBER.fit(tiny(compute=compute))
    assert told.value.field == field


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MEMBER.device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert MEMBER.device("auto") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(ResourceError, match="started 4 processes on this machine: torch finds 3 GPUs") as told:
        MEMBER.device("cuda")
    assert told.value.field == "compute.device"


class OtherFolder(Team):
    """A team whose other process sees nothing."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def gather(self, value: Any) -> list[Any]:
        return [value, False]


def test_a_folder_that_another_machine_lacks_is_told_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "ProcessTeam", OtherFolder)
    monkeypatch.setattr(rendezvous, "LocalHosts", None)
    monkeypatch.setattr(rendezvous, "_tell", lambda value: value)
    with pytest.raises(ResourceError, match="Not all machines of the run see the same folder"):
        rendezvous.FirstHosts(Member(0, 2, 0, 1), tiny(compute={"device": "cpu"}), tmp_path, ())
    assert not list(tmp_path.iterdir())
