"""Checkpoints as the training library lays them out, of small files instead of tensors."""

from __future__ import annotations

from pathlib import Path

from opcod.training.manifest import Manifest, StudentState, damage, manifest_name, manifest_paths, read_manifest, record_files


def write_checkpoint(folder: Path, seq: int, *, steps: int | None = None, salt: str = "") -> Manifest:
    """Checkpoint `seq`: weights and optimiser of two students, and a frozen tutor that all checkpoints share."""
    steps = seq if steps is None else steps
    states = {}
    for name in ("ann", "bob"):
        place = folder / "checkpoints" / f"{name}-{steps:06d}"
        place.mkdir(parents=True, exist_ok=True)
        for part in ("weights", "optimizer"):
            (place / f"{part}.safetensors").write_bytes(f"{name} {part} after {steps}{salt}\n".encode() * 1000)
        files = {path.name: path.stat().st_size for path in sorted(place.iterdir())}
        states[name] = StudentState(steps=steps, folder=f"checkpoints/{place.name}", files=files)
    tutor = folder / "tutors" / "ann-000000.safetensors"
    tutor.parent.mkdir(exist_ok=True)
    tutor.write_bytes(b"a frozen tutor" * 1000)
    manifest = Manifest(
        seq=seq, config_digest="same", round=1, decisions=[], evaluations=[], students=states, tutors={"ann": 0}, score=None
    )
    manifest = manifest.model_copy(update={"files": record_files(folder, manifest.paths)}).sealed()
    (folder / "checkpoints" / manifest_name(seq)).write_text(manifest.model_dump_json(), encoding="utf-8")
    return manifest


def newest_whole(folder: Path) -> int | None:
    """Number of the newest whole checkpoint in a run's folder; None where there is none."""
    for path in manifest_paths(folder):
        manifest = read_manifest(path)
        if manifest is not None and damage(folder, manifest) is None:
            return manifest.seq
    return None


def prune(folder: Path, keep: int) -> None:
    """As the trainer does: only the newest checkpoints stay."""
    for path in manifest_paths(folder)[keep:]:
        manifest = read_manifest(path)
        path.unlink()
        for state in manifest.students.values() if manifest else ():
            for file in (folder / state.folder).iterdir():
                file.unlink()
            (folder / state.folder).rmdir()
