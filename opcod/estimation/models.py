"""How large a student is, read from its files without loading it: `config.json`, and the headers of its safetensors."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from opcod.config import AdaptersConfig
from opcod.errors import ModelError
from opcod.students.references import locate

LONGEST_HEADER = 100_000_000
"""Bytes; what safetensors itself allows."""
_TABLES = re.compile(r"embed|lm_head|\bwte\b|\bwpe\b|output_layer")
"""Matrices over the vocabulary or positions: they get no adapter under ``all-linear``."""


class ModelShape(BaseModel):
    """The sizes that decide what a model's work takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int
    layers: int
    attention: int
    """Width of the queries: heads times their size."""
    key_value: int
    """Width of the keys, and of the values."""
    hidden: int
    intermediate: int
    vocabulary: int
    linear: dict[str, int] = {}
    """A linear module's place in its layer, as in ``self_attn.q_proj`` -> the sum over layers of its inputs and outputs."""

    def trainable(self, adapters: AdaptersConfig | None) -> int:
        """Parameters that an update changes: all, or the adapters' alone (rank times inputs and outputs of each target)."""
        if adapters is None:
            return self.parameters
        wanted = adapters.targets
        names = [name for name in self.linear if wanted == "all-linear" or _is_target(name, wanted)]
        return adapters.rank * sum(self.linear[name] for name in names)


def _is_target(place: str, targets: str | list[str]) -> bool:
    """As peft has it: names of modules, or a pattern of whole paths (here: of those in the first layer)."""
    if isinstance(targets, list):
        return place in targets or place.rpartition(".")[2] in targets
    return re.fullmatch(targets, f"model.layers.0.{place}") is not None


def model_shape(ref: str) -> ModelShape | None:
    """The shape of a student on this machine's disk; None for a hub id, or where the files do not tell."""
    try:
        folder = Path(locate(ref))
    except ModelError:
        return None
    if not folder.is_dir():
        return None
    files = tuple(sorted((str(file), file.stat().st_mtime_ns) for file in folder.iterdir() if file.suffix == ".safetensors"))
    return _read(str(folder), files)


@lru_cache(maxsize=256)
def _read(folder: str, files: tuple[tuple[str, int], ...]) -> ModelShape | None:
    try:
        stated = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return shape_of(stated, {name: shape for file, _ in files for name, shape in _tensors(Path(file)).items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, ZeroDivisionError):
        return None


def shape_of(stated: Mapping[str, Any], tensors: Mapping[str, Sequence[int]]) -> ModelShape:
    """From what a `config.json` states, and the shape of every tensor by its name.

    Raises:
        KeyError: a size is not stated.
    """
    text: Mapping[str, Any] = stated.get("text_config") or stated
    heads = int(text["num_attention_heads"])
    size = int(text.get("head_dim") or text["hidden_size"] // heads)
    return ModelShape(
        parameters=sum(prod(shape) for shape in tensors.values()),
        layers=int(text["num_hidden_layers"]),
        attention=heads * size,
        key_value=int(text.get("num_key_value_heads") or heads) * size,
        hidden=int(text["hidden_size"]),
        intermediate=int(text.get("intermediate_size") or 4 * text["hidden_size"]),
        vocabulary=int(text["vocab_size"]),
        linear=_linear(tensors),
    )


def _tensors(file: Path) -> dict[str, list[int]]:
    """Name -> shape of every tensor of a safetensors file: its header alone is read."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > LONGEST_HEADER:
            raise ValueError("no safetensors file")
        header = json.loads(opened.read(length))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def _linear(tensors: Mapping[str, Sequence[int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, shape in tensors.items():
        module = name.removesuffix(".weight")
        if module != name and len(shape) == 2 and not _TABLES.search(name):
            place = ".".join(module.split(".")[-2:])
            sums[place] = sums.get(place, 0) + sum(shape)
    return sums
