"""One base model, many adapters: students whose weights differ in their adapters alone hold the rest of them once.

Each student, self-teacher and frozen tutor is a model of its own, so that there is no adapter to switch; the frozen weights in
all of them are the same tensors. The pair then trains in little more memory than one model.
"""

from __future__ import annotations

import torch

from opcod.config import AdaptersConfig
from opcod.students.loading import Student, equip, load_bare
from opcod.students.lora import copy_around_frozen


class Bases:
    """Base models by reference, device and precision, each loaded when it is first asked for and kept as long as this is."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, torch.device, torch.dtype], Student] = {}

    def student(
        self, ref: str, *, device: torch.device, dtype: torch.dtype, adapters: AdaptersConfig, gradient_checkpointing: bool = False
    ) -> Student:
        """As `opcod.students.loading.load_student`, to the bit, with fresh adapters around the shared base."""
        key = (ref, device, dtype)
        if key not in self._loaded:
            base = load_bare(ref, device=device, dtype=dtype)
            base.model.requires_grad_(False)
            self._loaded[key] = base
        base = self._loaded[key]
        own = Student(copy_around_frozen(base.model), base.tokenizer, ref)
        return equip(own, adapters=adapters, gradient_checkpointing=gradient_checkpointing)
