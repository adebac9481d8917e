"""Resumable states of a run on disk: safetensors and JSON only.

A checkpoint is a manifest that names one state folder a student, and each file with its size and SHA-256.
It is written after every event before it is durable and every file it names is whole and on the disk, so
that what a manifest promises was there; what was damaged since is found out before it is used. Random
state needs no keeping: every draw's seed follows from the step (`opcod.seeds`), so the step is the state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from opcod.config import ExperimentConfig, parse_config, parse_yaml
from opcod.errors import CheckpointError, ConfigError, ResourceError
from opcod.training.manifest import (
    CONFIG_FILE,
    FOLDER,
    TUTORS,
    FileRecord,
    Keeping,
    Manifest,
    StudentState,
    damage,
    manifest_name,
    manifest_paths,
    read_manifest,
    record_files,
    sync_folder,
    tutor_file,
)
from opcod.types import Evaluation

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Takes what the run's owner should know, in words."""


def scores_of(evaluations: list[Evaluation], *, round: int, split: str) -> dict[str, dict[str, float]]:
    """Student -> domain -> score of one round's evaluations."""
    found: dict[str, dict[str, float]] = {}
    for one in evaluations:
        if one.round == round and one.split == split:
            found.setdefault(one.student, {})[one.domain] = one.score
    return found


def config_digest(config: ExperimentConfig) -> str:
    """What must be equal for a checkpoint to fit: all of the configuration but its name, what is kept, and how the work is cut."""
    recorded = {"keep_checkpoints", "keep_first", "keep_best", "token_questions", "token_alternatives"}
    data = config.model_dump(
        mode="json", exclude={"name": True, "recording": recorded, "compute": {"gpus", "micro_batch_tokens", "cuda_graphs"}}
    )
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def check_folder(folder: Path, config: ExperimentConfig) -> None:
    """See that the folder's run, if it holds one, has this configuration.

    Raises:
        CheckpointError: it has another.
    """
    if (folder / CONFIG_FILE).is_file() and not _began_with(folder, config):
        raise _another_configuration(folder)


def _began_with(folder: Path, config: ExperimentConfig) -> bool:
    """Whether the folder's run says that it began with this configuration, as it is read today.

    A setting that came with a later version has its default there, though no digest of that time knows it.
    """
    try:
        began = parse_config(parse_yaml((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    except (ConfigError, FileNotFoundError):
        return False
    return config_digest(began) == config_digest(config)


def _another_configuration(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"{str(folder)!r} holds a run with another configuration.",
        advice="Give a new folder, or the configuration that the run began with (it stands in config.yaml there).",
    )


class Checkpoints:
    """The checkpoints in a run's folder. `tell` hears of damaged ones that were passed over."""

    def __init__(self, folder: Path, config: ExperimentConfig, tell: Tell = logger.warning) -> None:
        self.run_folder = folder
        self.folder = folder / FOLDER
        self._config, self.digest = config, config_digest(config)
        recording = config.recording
        self.keeping = Keeping(recording.keep_checkpoints, recording.keep_first, recording.keep_best)
        self.tell = tell
        self._known: Mapping[str, FileRecord] = {}

    def latest(self) -> Manifest | None:
        """The newest checkpoint that is whole; those that are newer and damaged are told of and deleted.

        None where there is none, or none is whole: the run then starts afresh, and a run's steps and events
        come out as they did before. States and frozen tutors that no checkpoint names are deleted too: a run that
        starts or goes on here will write them anew, and must not take what a damaged or an earlier run left for its own.

        Raises:
            CheckpointError: the folder's run has another configuration.
        """
        damaged: list[tuple[Path, str]] = []
        found: Manifest | None = None
        for path in manifest_paths(self.run_folder):
            manifest = read_manifest(path)
            if manifest is None:
                damaged.append((path, f"Checkpoint {path.name} cannot be read"))
                continue
            if manifest.config_digest != self.digest and not _began_with(self.run_folder, self._config):
                raise _another_configuration(self.run_folder)
            if fault := damage(self.run_folder, manifest):
                damaged.append((path, f"The checkpoint of {manifest.place} is damaged: {fault}"))
                continue
            found = manifest
            break
        place = f"goes on from the one before, of {found.place}" if found else "starts afresh, as no checkpoint is whole"
        for path, fault in damaged:
            self.tell(f"{fault}. The run {place}.")
            path.unlink(missing_ok=True)
        self._known = found.files if found else {}
        self._sweep()
        return found

    def write(self, manifest: Manifest) -> Manifest:
        """Write the manifest with the record of its files, then delete the checkpoints that are no longer kept. Returns it whole.

        Raises:
            ResourceError: the disk is full or not writable; the checkpoints before stay as they are.
        """
        path = self.folder / manifest_name(manifest.seq)
        partial = path.with_suffix(".partial")
        try:
            with explained_disk_errors(path):
                self.folder.mkdir(parents=True, exist_ok=True)
                new = [name for name in manifest.paths if name not in self._known]
                records = {**self._known, **record_files(self.run_folder, new)}
                manifest = manifest.model_copy(update={"files": {name: records[name] for name in manifest.paths}}).sealed()
                for folder in {(self.run_folder / name).parent for name in new}:
                    sync_folder(folder)
                with partial.open("w", encoding="utf-8") as file:
                    file.write(manifest.model_dump_json(indent=1))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
                sync_folder(self.folder)
        finally:
            partial.unlink(missing_ok=True)
        self._known = manifest.files
        found = {each.name: read for each in manifest_paths(self.run_folder) if (read := read_manifest(each))}
        kept = self.keeping.choose(found)
        for old in manifest_paths(self.run_folder):
            if old.name not in kept:
                old.unlink(missing_ok=True)
        self._sweep()
        return manifest

    def _sweep(self) -> None:
        """Delete states and frozen tutors that no kept manifest names."""
        manifests = [manifest for path in manifest_paths(self.run_folder) if (manifest := read_manifest(path))]
        named = {self.run_folder / path for manifest in manifests for path in manifest.paths}
        folders = {path.parent for path in named}
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.is_dir() and folder not in folders:
                shutil.rmtree(folder, ignore_errors=True)
        for file in (self.run_folder / TUTORS).glob("*.safetensors"):
            if file not in named:
                file.unlink(missing_ok=True)


def tutor_path(run_folder: Path, name: str, steps: int) -> Path:
    """Where a student's weights after `steps` updates lie frozen, as a tutor."""
    return run_folder / TUTORS / tutor_file(name, steps)


def save_state(run_folder: Path, student: str, steps: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> StudentState:
    """Write one student's tensors, a file a group, into a folder that appears whole or not at all.

    A folder of the same student and step is left as it is: the step determines its content.

    Raises:
        ResourceError: the disk is full or not writable; nothing half-written remains.
    """
    folder = run_folder / FOLDER / f"{student}-{steps:06d}"
    if not folder.is_dir():
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with explained_disk_errors(folder):
                partial.mkdir(parents=True)
                for name, group in tensors.items():
                    save_file({key: tensor.contiguous() for key, tensor in group.items()}, partial / f"{name}.safetensors")
                os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return StudentState(steps=steps, folder=f"{FOLDER}/{folder.name}", files=files)


def load_state(run_folder: Path, state: StudentState) -> dict[str, dict[str, Tensor]]:
    """The tensors that `save_state` wrote, on the CPU.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    folder = run_folder / state.folder
    try:
        return {Path(name).stem: load_file(folder / name) for name in state.files}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The state {str(folder)!r} cannot be read: {error}.", advice="Delete the newest checkpoint and resume."
        ) from error


@contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn a failed write into an error that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ResourceError(
            f"{str(path)!r} cannot be written: {reason}.",
            advice="Free space on the disk, then resume: the last checkpoint is whole.",
        ) from error
