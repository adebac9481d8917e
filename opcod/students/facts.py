"""What a student's folder says of itself without being loaded: its kind, its size, and what will stop it. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal

from opcod.plain_text import bounded
from opcod.students.references import CONVERT_ADVICE, SAVED_ADVICE

LONGEST_HEADER = 100_000_000
"""Bytes; what safetensors itself allows."""
LONGEST_JSON = 64 * 2**20
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
WORDS = 200
"""Characters of a name from the files that are told."""


@dataclass(frozen=True, slots=True)
class StudentFinding:
    """One thing about a student's files."""

    kind: str
    severity: Literal["stops", "warns", "notes"]
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class StudentFacts:
    """`context_tokens` is the longest sequence that its configuration allows; None where that is not said."""

    architecture: str | None
    parameters: int
    precision: str | None
    size_bytes: int
    vocabulary: int | None
    context_tokens: int | None
    has_chat_template: bool
    findings: tuple[StudentFinding, ...]

    @property
    def loadable(self) -> bool:
        """Whether nothing was found that stops it."""
        return not any(finding.severity == "stops" for finding in self.findings)


def student_facts(folder: Path) -> StudentFacts:
    """Read a model's folder: its configuration, and the headers of its safetensors.

    Raises:
        OSError: it cannot be read.
    """
    files = [(file.name, file.stat()) for file in folder.iterdir() if file.is_file()]
    return _read(str(folder), tuple(sorted((name, status.st_size, status.st_mtime_ns) for name, status in files)))


@lru_cache(maxsize=512)
def _read(folder: str, files: tuple[tuple[str, int, int], ...]) -> StudentFacts:
    place, names = Path(folder), {name for name, _, _ in files}
    config = _json(place / "config.json")
    text = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else config
    weights, findings = _weights(place, names)
    tokenizer = _json(place / "tokenizer_config.json")
    template = bool(tokenizer.get("chat_template")) or "chat_template.jinja" in names or "chat_template.json" in names
    architectures = config.get("architectures")
    architecture = str(architectures[0])[:WORDS] if isinstance(architectures, list) and architectures else None
    findings += _of_configuration(config, architecture) + _of_files(names, template)
    order = ("stops", "warns", "notes")
    return StudentFacts(
        architecture=architecture,
        parameters=sum(parameters for parameters, _ in weights),
        precision=max(weights, key=lambda one: one[0])[1] if weights else None,
        size_bytes=sum(size for _, size, _ in files),
        vocabulary=_number(text, "vocab_size"),
        context_tokens=_number(text, "max_position_embeddings"),
        has_chat_template=template,
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
    )


def _weights(place: Path, names: Iterable[str]) -> tuple[list[tuple[int, str]], list[StudentFinding]]:
    """(parameters, precision) of every part of the weights, and what is wrong with them."""
    found, findings = list[tuple[int, str]](), list[StudentFinding]()
    for name in sorted(name for name in names if name.endswith(".safetensors")):
        try:
            found += _tensors(place / name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            findings.append(StudentFinding("damaged", "stops", f"{bounded(name, WORDS)} is damaged: {error}.", "Fetch or save it again."))
    for index in sorted(name for name in names if name.endswith(".safetensors.index.json")):
        parts = _json(place / index).get("weight_map")
        wanted = {str(part) for part in parts.values()} if isinstance(parts, Mapping) else set()
        if missing := sorted(wanted - set(names)):
            message = f"{len(missing)} of {len(wanted)} parts of the weights are missing, {bounded(missing[0], WORDS)} first."
            findings.append(StudentFinding("missing_parts", "stops", message, "Copy the whole folder."))
    return found, findings


def _tensors(file: Path) -> Iterator[tuple[int, str]]:
    """Size and precision of every tensor of a safetensors file; sees that the file is as long as its header says."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise ValueError("it does not begin as safetensors do")
        header = json.loads(opened.read(length))
    end = 0
    for name, entry in header.items():
        if name != "__metadata__":
            end = max(end, int(entry["data_offsets"][1]))
            yield prod(int(part) for part in entry["shape"]), str(entry["dtype"])[:16]
    if end != size - 8 - length:
        raise ValueError(f"it has {size - 8 - length:,} bytes of weights where its header speaks of {end:,}")


def _of_configuration(config: Mapping[str, Any], architecture: str | None) -> list[StudentFinding]:
    found = []
    if not config:
        found.append(StudentFinding("configuration", "stops", "config.json is not a JSON object.", SAVED_ADVICE))
    if "auto_map" in config:
        message = "config.json names code of its own (auto_map), which is never run."
        found.append(StudentFinding("remote_code", "warns", message, "It loads only if transformers itself has its architecture."))
    if architecture and not architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        message = f"{architecture} does not look like a causal language model."
        found.append(StudentFinding("architecture", "warns", message, "Choose one that generates text (...ForCausalLM)."))
    if "quantization_config" in config:
        found.append(
            StudentFinding("quantized", "warns", "Its weights are quantised; they cannot be trained as they are.", "Take the original.")
        )
    return found


def _of_files(names: Iterable[str], template: bool) -> list[StudentFinding]:
    found, names = [], set(names)
    if not names & set(TOKENIZERS):
        advice = "Save the tokenizer into the model's folder: tokenizer.json and tokenizer_config.json."
        found.append(StudentFinding("tokenizer", "stops", "It has no tokenizer.", advice))
    elif not template:
        message = "Its tokenizer has no chat template: prompts are written plainly, as for a base model."
        found.append(
            StudentFinding(
                "chat_template", "notes", message, "An instruction-tuned model should have one; look whether it was left behind."
            )
        )
    if pickled := sorted(name for name in names if name.endswith(PICKLED)):
        message = f"{bounded(pickled[0], WORDS)} is a pickle or of another library; it is never read."
        found.append(StudentFinding("pickle", "notes", message, "" if _whole(names) else CONVERT_ADVICE))
    if "adapter_config.json" in names:
        found.append(StudentFinding("adapters", "warns", "It holds adapters beside its weights.", "Merge them: peft's merge_and_unload()."))
    return found


def _whole(names: Iterable[str]) -> bool:
    return any(name.endswith(".safetensors") for name in names)


def _json(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, or it is broken."""
    try:
        if file.stat().st_size > LONGEST_JSON:
            return {}
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _number(config: Any, name: str) -> int | None:
    value = config.get(name) if isinstance(config, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None
