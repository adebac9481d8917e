"""Which settings do nothing under which others, and why: a form dims them, so that nobody tunes what is not used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Data = Mapping[str, Any]


def _algorithm(data: Data) -> Any:
    return _at(data, "method.algorithm") or "opcod"


def _tutored(data: Data) -> bool:
    return bool(_algorithm(data) == "opcod" and _at(data, "method.gate.strategy") != "never")


def _generic(data: Data) -> bool:
    return bool(_at(data, "method.feedback.style") == "generic")


NO_TUTORS = "Not used: nobody tutors in this run."
RULES: tuple[tuple[str, Callable[[Data], bool], str], ...] = (
    (r"method\.gate", lambda data: _algorithm(data) == "opcod", "Not used: only OPCoD has tutors, and a gate for them."),
    (
        r"method\.gate\.threshold",
        lambda data: _at(data, "method.gate.strategy") not in ("always", "never"),
        "Not used: this strategy reads no threshold.",
    ),
    (r"method\.feedback", _tutored, NO_TUTORS),
    (
        r"method\.feedback\.templates\.anchored",
        lambda data: _at(data, "method.feedback.style") != "generic",
        "Not used: the style is generic.",
    ),
    (
        r"method\.feedback\.templates\.generic",
        lambda data: _at(data, "method.feedback.style") == "generic",
        "Not used: the style is anchored.",
    ),
    (r"method\.(teacher|loss)", lambda data: _algorithm(data) != "grpo", "Not used: GRPO has no self-teacher."),
    (r"method\.loss\.tail_bucket", lambda data: _at(data, "method.loss.top_k") is not None, "Not used: the whole vocabulary is compared."),
    (r"method\.grpo", lambda data: _algorithm(data) == "grpo", "Used by GRPO only."),
    (r"schedule\.tutor_snapshot", _tutored, NO_TUTORS),
    (r"evaluation\.break_rescue_questions", _tutored, NO_TUTORS),
    (r"compute\.gpu_memory_gib", lambda data: _at(data, "compute.device") != "cpu", "Not used: the run is for a CPU."),
    (
        r"compute\.cuda_graphs",
        lambda data: (
            _at(data, "compute.device") != "cpu" and _at(data, "compute.engine") != "vllm" and _at(data, "compute.gpus") in (1, None)
        ),
        "Not used: for one GPU and the run's own engine.",
    ),
    (r"compute\.vllm_memory_fraction", lambda data: _at(data, "compute.engine") == "vllm", "Not used: vLLM does not sample in this run."),
)
"""(pattern of a path, whether what it leads to is used, what to say where it is not). Paths below a match follow it."""


def unused(data: Data) -> Iterator[tuple[str, str]]:
    """(path, why) of settings and sections that `data` makes no use of; the outermost where a whole section is unused.

    `data` need not be valid.
    """
    found: dict[str, str] = {}
    for path in _paths(data):
        outer = next((other for other in found if path.startswith(f"{other}.")), None)
        why = next((words for pattern, used, words in RULES if re.fullmatch(pattern, path) and not used(data)), None)
        if outer is None and why is not None:
            found[path] = why
    for place, domain in enumerate(data.get("domains") or ()):
        verifier = domain.get("verifier") if isinstance(domain, Mapping) else None
        if isinstance(verifier, Mapping) and verifier.get("kind", "multiple_choice") != "number":
            for name in ("relative_tolerance", "absolute_tolerance"):
                found[f"domains.{place}.verifier.{name}"] = "Not used: this verifier compares no numbers."
    yield from found.items()


def _paths(value: Any, path: str = "") -> Iterator[str]:
    if path:
        yield path
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _paths(below, f"{path}.{name}" if path else str(name))


def _at(data: Data, path: str) -> Any:
    found: Any = data
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
