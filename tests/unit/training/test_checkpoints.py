"""States on disk appear whole or not at all, and a full disk is said in words."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from opcod.errors import CheckpointError, ResourceError
from opcod.training.checkpoints import Checkpoints, check_folder, load_state, save_state
from opcod.training.manifest import CONFIG_FILE, Manifest, manifest_name
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
    first = checkpoints.write(manifest(tmp_path, checkpoints, 1, steps=1))
    with no_room(), pytest.raises(ResourceError, match="cannot be written") as caught:
        save_state(tmp_path, "ann", 2, TENSORS)
    assert "Free space" in caught.value.advice
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["ann-000001", manifest_name(1)]
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
    assert names == ["ann-000004", "ann-000005", manifest_name(4), manifest_name(5)]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", ["ann-000002/weights.safetensors", "checkpoint-00000000000000000002.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_written_anew(
    tmp_path: Path, harm: Callable[[Path], None], name: str
) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, config(), told.append)
    for step in (1, 2):
        checkpoints.write(manifest(tmp_path, checkpoints, seq=step, steps=step))
    harm(tmp_path / "checkpoints" / name)
    fresh = Checkpoints(tmp_path, config(), told.append)
    latest = fresh.latest()
    assert latest is not None
    assert latest.seq == 1
    gone = harm is Path.unlink and name.endswith(".json")  # then nobody knows that there was one
    assert len(told) == (0 if gone else 1)
    assert all("goes on from the one before, of round 1, step 1" in text for text in told)
    fresh.write(manifest(tmp_path, fresh, seq=2, steps=2))
    again = fresh.latest()
    assert again is not None
    assert again.seq == 2
    assert torch.equal(load_state(tmp_path, again.students["ann"])["weights"]["a"], TENSORS["weights"]["a"])


def test_a_damaged_frozen_tutor_makes_its_checkpoint_damaged(tmp_path: Path) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, config(), told.append)
    checkpoints.write(manifest(tmp_path, checkpoints, seq=1, steps=1))
    tutor = tmp_path / "tutors" / "bob-000000.safetensors"
    tutor.parent.mkdir()
    tutor.write_bytes(b"frozen weights")
    checkpoints.write(manifest(tmp_path, checkpoints, seq=2, steps=2).model_copy(update={"tutors": {"bob": 0}}))
    flip_a_bit(tutor)
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.seq == 1
    assert "tutors/bob-000000.safetensors has another content" in told[0]


def test_where_no_checkpoint_is_whole_the_run_starts_afresh_and_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, config(), told.append)
    for step in (1, 2):
        checkpoints.write(manifest(tmp_path, checkpoints, seq=step, steps=step))
    for name in ("ann-000001", "ann-000002"):
        cut(tmp_path / "checkpoints" / name / "optimizer.safetensors")
    assert checkpoints.latest() is None
    assert len(told) == 2
    assert all("starts afresh" in text for text in told)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_the_first_and_the_best_checkpoint_are_kept_where_the_configuration_says_so(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, config(recording={"keep_checkpoints": 1, "keep_first": True, "keep_best": True}))
    for step, score in enumerate((0.2, None, 0.6, 0.6, 0.4, None), start=1):
        checkpoints.write(manifest(tmp_path, checkpoints, seq=step, steps=step).model_copy(update={"score": score}))
    kept = {path.name for path in (tmp_path / "checkpoints").glob("*.json")}
    assert kept == {manifest_name(1), manifest_name(3), manifest_name(6)}
    assert {path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()} == {"ann-000001", "ann-000003", "ann-000006"}


def test_a_checkpoint_of_an_earlier_version_is_read_and_checked_by_size(tmp_path: Path) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, config(), told.append)
    for step in (1, 2):
        written = checkpoints.write(manifest(tmp_path, checkpoints, seq=step, steps=step))
        old = written.model_copy(update={"format": 1}).model_dump_json(exclude={"files", "score", "seal"})
        (tmp_path / "checkpoints" / manifest_name(step)).write_text(old, encoding="utf-8")
    assert (latest := checkpoints.latest()) is not None
    assert latest.seq == 2
    cut(tmp_path / "checkpoints" / "ann-000002" / "weights.safetensors")
    assert (latest := checkpoints.latest()) is not None
    assert latest.seq == 1
    assert set(checkpoints.write(manifest(tmp_path, checkpoints, seq=3, steps=1)).files) == {
        "checkpoints/ann-000001/optimizer.safetensors",
        "checkpoints/ann-000001/weights.safetensors",
    }


def test_a_run_goes_on_after_a_version_has_brought_a_new_setting(tmp_path: Path) -> None:
    written = Checkpoints(tmp_path, config())
    written.digest = "of a configuration without the setting"
    written.write(manifest(tmp_path, written, seq=1, steps=1))
    began_with = config().model_dump(mode="json")
    del began_with["compute"]["gpu_memory_gib"]
    (tmp_path / CONFIG_FILE).write_text(yaml.safe_dump(began_with), encoding="utf-8")
    assert (latest := Checkpoints(tmp_path, config()).latest()) is not None
    assert latest.seq == 1
    with pytest.raises(CheckpointError, match="another configuration"):
        Checkpoints(tmp_path, config(seed=1)).latest()


def test_what_a_run_left_before_its_first_checkpoint_is_not_taken_over(tmp_path: Path) -> None:
    save_state(tmp_path, "ann", 0, TENSORS)
    assert Checkpoints(tmp_path, config()).latest() is None
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_folder_keeps_to_its_configuration(tmp_path: Path) -> None:
    check_folder(tmp_path, config())
    (tmp_path / CONFIG_FILE).write_text(config().to_yaml(), encoding="utf-8")
    check_folder(tmp_path, config(name="only renamed"))
    check_folder(tmp_path, config(compute={"micro_batch_tokens": 1024}))  # as whoever ran out of memory is told to
    with pytest.raises(CheckpointError, match="another configuration"):
        check_folder(tmp_path, config(seed=1))
    (tmp_path / CONFIG_FILE).write_text("nonsense", encoding="utf-8")
    with pytest.raises(CheckpointError, match="another configuration"):
        check_folder(tmp_path, config())
