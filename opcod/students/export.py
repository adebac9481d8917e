"""Students as ordinary Hugging Face folders."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opcod.errors import ModelError, ResourceError
from opcod.students.loading import Student, quiet
from opcod.students.lora import merged


def export_student(student: Student, folder: Path) -> Path:
    """Write the student to `folder`: safetensors with adapters merged, configuration, generation settings and tokenizer.

    The folder appears whole or not at all; one that an earlier export wrote is replaced.

    Raises:
        ModelError: `folder` holds something other than a model.
        ResourceError: the disk is full or not writable.
    """
    return save_folder(merged(student.model), student.tokenizer, folder)


def save_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """As `export_student`, for a bare model."""
    if folder.exists() and not (folder.is_dir() and ((folder / "config.json").is_file() or not any(folder.iterdir()))):
        raise ModelError(f"{str(folder)!r} exists and holds no model.", advice="Choose another folder, or empty it.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary, quiet():
            whole = Path(temporary) / "model"
            model.save_pretrained(whole)
            tokenizer.save_pretrained(whole)
            if folder.exists():
                shutil.rmtree(folder)
            whole.rename(folder)
    except OSError as error:
        raise ResourceError(
            f"The model cannot be written to {str(folder)!r}: {error.strerror or error}.", advice="Free space on the disk."
        ) from error
    return folder
