"""States on disk appear whole or not at all, and a full disk is said in words."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from opcod.errors import CheckpointError, ResourceError
from opcod.training.checkpoints import CONFIG_FILE, Checkpoints, Manifest, check_folder, load_state, save_state
from tests.unit.training.small_world import config

TENSORS = {"weights": {"a": torch.arange(4096.0)}, "optimizer": {"updates": torch.tensor(3), "a": torch.ones(4096)}}


@contextmanager
def no_room(limit: int = 2000) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: every larger write fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def manifest(folder: Path, checkpoints: Checkpoints, seq: int, steps: int) -> Manifest:
    state = save_state(folder, "ann", steps, TENSORS)
    return Manifest(seq=seq, config_digest=checkpoints.digest, round=1, decisions=[], evaluations=[], students={"ann": state}, tutors={})


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = save_state(tmp_path, "ann", 7, TENSORS)
    found = load_state(tmp_path, state)
    assert found.keys() == TENSORS.keys()
    for name, group in TENSORS.items():
        assert all(torch.equal(found[name][key], tensor) for key, tensor in group.items())


def test_a_full_disk_is_said_and_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, config())
    first = manifest(tmp_path, checkpoints, 1, steps=1)
    checkpoints.write(first)
    with no_room(), pytest.raises(ResourceError, match="cannot be written") as caught:
        save_state(tmp_path, "ann", 2, TENSORS)
    assert "Free space" in caught.value.advice
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["ann-000001", Checkpoints.name(1)]
    assert checkpoints.latest() == first
    checkpoints.write(manifest(tmp_path, checkpoints, 2, steps=2))  # there is room again
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.students["ann"].steps == 2


def test_only_the_last_checkpoints_are_kept_with_their_states(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, config(recording={"keep_checkpoints": 2}))
    for step in range(1, 6):
        checkpoints.write(manifest(tmp_path, checkpoints, seq=step, steps=step))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["ann-000004", "ann-000005", Checkpoints.name(4), Checkpoints.name(5)]


def test_a_damaged_state_is_written_anew_and_not_taken_for_whole(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, config())
    for step in (1, 2):
        checkpoints.write(manifest(tmp_path, checkpoints, seq=step, steps=step))
    file = tmp_path / "checkpoints" / "ann-000002" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.seq == 1
    checkpoints.write(manifest(tmp_path, checkpoints, seq=2, steps=2))
    again = checkpoints.latest()
    assert again is not None
    assert again.seq == 2
    assert torch.equal(load_state(tmp_path, again.students["ann"])["weights"]["a"], TENSORS["weights"]["a"])


def test_what_a_run_left_before_its_first_checkpoint_is_not_taken_over(tmp_path: Path) -> None:
    save_state(tmp_path, "ann", 0, TENSORS)
    assert Checkpoints(tmp_path, config()).latest() is None
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_folder_keeps_to_its_configuration(tmp_path: Path) -> None:
    check_folder(tmp_path, config())
    (tmp_path / CONFIG_FILE).write_text(config().to_yaml(), encoding="utf-8")
    check_folder(tmp_path, config(name="only renamed"))
    with pytest.raises(CheckpointError, match="another configuration"):
        check_folder(tmp_path, config(seed=1))
    (tmp_path / CONFIG_FILE).write_text("nonsense", encoding="utf-8")
    with pytest.raises(CheckpointError, match="another configuration"):
        check_folder(tmp_path, config())


def test_a_folder_without_a_whole_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, config())
    assert checkpoints.latest() is None
    checkpoints.write(manifest(tmp_path, checkpoints, 1, steps=1))
    (tmp_path / "checkpoints" / Checkpoints.name(1)).write_text("{ half", encoding="utf-8")
    with pytest.raises(CheckpointError, match="whole"):
        checkpoints.latest()
