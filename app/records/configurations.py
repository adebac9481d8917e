"""Which runs share a configuration, and what sets configurations apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from opcod.config import leaves, parse_config
from opcod.errors import ConfigError

BESIDE = (
    "name",
    "seed",
    "recording.",
    "compute.device",
    "compute.cuda_graphs",
    "compute.gpu_memory_gib",
    "compute.gpus",
    "compute.micro_batch_tokens",
    "compute.threads",
    "compute.side_by_side",
    "compute.vllm_memory_fraction",
)
"""Settings in which runs of one configuration may differ: what they are called, chance, what is kept, and where they ran."""
LABEL_PARTS = 3
LONGEST_LABEL = 80
_MISSING = object()


def flat(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Dotted path -> value, defaults of today included, as all runs are read by the same rules. Not to be changed."""
    return _flat(json.dumps(config, sort_keys=True))


@lru_cache(maxsize=1000)
def _flat(text: str) -> Mapping[str, Any]:
    data = json.loads(text)
    with suppress(ConfigError):  # of a version that took what this one refuses: as it stands
        data = parse_config(data).model_dump(mode="json")
    return dict(leaves(data))


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted path, value here, value there) wherever two stored configurations differ."""
    return flat_differences(flat(here), flat(there))


def flat_differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The same of flat ones."""
    return [(path, left.get(path), right.get(path)) for path in sorted({*left, *right}) if left.get(path) != right.get(path)]


@lru_cache(maxsize=4000)
def sets_apart(path: str) -> bool:
    """Whether another value of this setting makes another configuration."""
    return not path.startswith(BESIDE)


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths of the settings that are not the same everywhere, but for names; those that make other configurations first."""
    distinct = list({id(config): config for config in configs}.values())
    paths = {path for config in distinct for path in config if path != "name"}
    found = [path for path in paths if any(config.get(path, _MISSING) != distinct[0].get(path, _MISSING) for config in distinct)]
    return sorted(found, key=lambda path: (not sets_apart(path), path != "method.algorithm", path))


def key(config: Mapping[str, Any]) -> str:
    """The same text for flat configurations that are the same but for what stands beside."""
    return json.dumps({path: value for path, value in config.items() if sets_apart(path)}, sort_keys=True)


def grouped(keys: Sequence[str]) -> list[list[int]]:
    """Places of configurations whose keys are the same, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(keys):
        groups.setdefault(one, []).append(place)
    return list(groups.values())


def label(config: Mapping[str, Any], paths: Sequence[str]) -> str:
    """A configuration in a few words, by the settings in which it differs from others."""
    if not paths:
        return "One configuration"
    parts = [_part(path, config.get(path)) for path in paths[:LABEL_PARTS]]
    whole = ", ".join(parts) + (f" and {len(paths) - LABEL_PARTS} more" if len(paths) > LABEL_PARTS else "")
    return whole if len(whole) <= LONGEST_LABEL else f"{whole[: LONGEST_LABEL - 1]}…"


def text_of(value: Any, longest: int = 40) -> str:
    """A setting's value as people read it, on one line."""
    words = {None: "–", True: "yes", False: "no"}
    text = words[value] if value is None or isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _part(path: str, value: Any) -> str:
    name = path.rpartition(".")[2].replace("_", " ")
    return {"opcod": "OPCoD"}.get(str(value), str(value).upper()) if path == "method.algorithm" else f"{name} {text_of(value, 24)}"
