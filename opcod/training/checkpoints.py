"""Resumable states of a run on disk: safetensors and JSON only.

A checkpoint is a manifest that names one state folder a student. It is written after every event before
it is durable and every state it names is whole, so that what a manifest promises is always there. Random
state needs no keeping: every draw's seed follows from the step (`opcod.seeds`), so the step is the state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from opcod.config import ExperimentConfig, parse_config, parse_yaml
from opcod.errors import CheckpointError, ConfigError, ResourceError
from opcod.types import Evaluation, GateDecision

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
TUTORS = "tutors"
"""Frozen tutors' weights, in the run's folder."""
CONFIG_FILE = "config.yaml"
"""The run's configuration, in its folder since its first event."""
FORMAT = 1


class StudentState(BaseModel):
    """Where one student's state lies, relative to the run's folder, and the size of its files in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    folder: str
    files: dict[str, int]


class Manifest(BaseModel):
    """A checkpoint: all that a run needs to go on from the given place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    seq: int
    """Number of the checkpoint's own event: later checkpoints have larger ones."""
    config_digest: str
    round: int
    decisions: list[GateDecision]
    evaluations: list[Evaluation]
    students: dict[str, StudentState]
    tutors: dict[str, int]
    """Frozen tutor -> its updates when it was frozen."""


def scores_of(evaluations: list[Evaluation], *, round: int, split: str) -> dict[str, dict[str, float]]:
    """Student -> domain -> score of one round's evaluations."""
    found: dict[str, dict[str, float]] = {}
    for one in evaluations:
        if one.round == round and one.split == split:
            found.setdefault(one.student, {})[one.domain] = one.score
    return found


def config_digest(config: ExperimentConfig) -> str:
    """What must be equal for a checkpoint to fit: all of the configuration but its name and what is kept."""
    data = config.model_dump(mode="json", exclude={"name": True, "recording": {"keep_checkpoints"}})
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def check_folder(folder: Path, config: ExperimentConfig) -> None:
    """See that the folder's run, if it holds one, has this configuration.

    Raises:
        CheckpointError: it has another.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return
    try:
        same = config_digest(parse_config(parse_yaml(path.read_text(encoding="utf-8")))) == config_digest(config)
    except ConfigError:
        same = False
    if not same:
        raise _another_configuration(folder)


def _another_configuration(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"{str(folder)!r} holds a run with another configuration.",
        advice="Give a new folder, or the configuration that the run began with (it stands in config.yaml there).",
    )


class Checkpoints:
    """The checkpoints in a run's folder."""

    def __init__(self, folder: Path, config: ExperimentConfig) -> None:
        self.run_folder = folder
        self.folder = folder / FOLDER
        self.digest = config_digest(config)
        self.keep = config.recording.keep_checkpoints

    def latest(self) -> Manifest | None:
        """The newest checkpoint that is whole; a damaged one is deleted, and said so in the log.

        States and frozen tutors that no checkpoint names go too: a run that starts or goes on here will write
        them anew, and must not take what a damaged or an earlier run left for its own.

        Raises:
            CheckpointError: the folder's run has another configuration, or no checkpoint is whole.
        """
        paths = self._paths()
        passed_over: list[Path] = []
        for path in paths:
            try:
                manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
            except (ValidationError, OSError, UnicodeDecodeError) as error:
                logger.warning("Checkpoint %s cannot be read and is passed over: %s", path.name, error)
                passed_over.append(path)
                continue
            if manifest.config_digest != self.digest:
                raise _another_configuration(self.run_folder)
            if damaged := self._damaged(manifest):
                logger.warning("Checkpoint %s is passed over: %s is missing or has another size.", path.name, damaged)
                passed_over.append(path)
                continue
            for useless in passed_over:
                useless.unlink()
            self._sweep()
            return manifest
        if paths:
            raise CheckpointError(
                f"None of the {len(paths)} checkpoints in {str(self.folder)!r} is whole.", advice="Start the run afresh in a new folder."
            )
        self._sweep()
        return None

    def write(self, manifest: Manifest) -> None:
        """Write the manifest, then delete the checkpoints that are no longer kept.

        Raises:
            ResourceError: the disk is full or not writable.
        """
        path = self.folder / self.name(manifest.seq)
        with explained_disk_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
            os.replace(partial, path)
        for old in self._paths()[self.keep :]:
            old.unlink(missing_ok=True)
        self._sweep()

    @staticmethod
    def name(seq: int) -> str:
        """File name of the checkpoint with this event number."""
        return f"checkpoint-{seq:020d}.json"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.json"), reverse=True)

    def _damaged(self, manifest: Manifest) -> str | None:
        sizes = {f"{state.folder}/{name}": size for state in manifest.students.values() for name, size in state.files.items()}
        for name, size in sizes.items():
            file = self.run_folder / name
            if not file.is_file() or file.stat().st_size != size:
                return name
        frozen = (tutor_path(self.run_folder, name, steps) for name, steps in manifest.tutors.items())
        return next((f"{TUTORS}/{path.name}" for path in frozen if not path.is_file()), None)

    def _sweep(self) -> None:
        """Delete states and frozen tutors that no kept manifest names."""
        named: set[Path] = set()
        for path in self._paths():
            try:
                manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
            except ValidationError:
                continue
            named |= {self.run_folder / state.folder for state in manifest.students.values()}
            named |= {tutor_path(self.run_folder, name, steps) for name, steps in manifest.tutors.items()}
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.is_dir() and folder not in named:
                shutil.rmtree(folder, ignore_errors=True)
        for file in (self.run_folder / TUTORS).glob("*.safetensors"):
            if file not in named:
                file.unlink(missing_ok=True)


def tutor_path(run_folder: Path, name: str, steps: int) -> Path:
    """Where a student's weights after `steps` updates lie frozen, as a tutor."""
    return run_folder / TUTORS / f"{name}-{steps:06d}.safetensors"


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
