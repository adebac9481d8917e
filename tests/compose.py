"""The compose files as `docker compose config` would show them, for machines without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
_INNERMOST = re.compile(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^${}]*))?\}")


def document(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """One file, variables filled in.

    Raises:
        KeyError: a variable without a default is not given.
    """

    def fill(match: re.Match[str]) -> str:
        variable, operator, text = match.groups()
        return given.get(variable) or (text if operator == ":-" else given[variable])

    text = (ROOT / name).read_text(encoding="utf-8")
    while (filled := _INNERMOST.sub(fill, text)) != text:
        text = filled
    found: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return found


def services(name: str, **given: str) -> dict[str, Any]:
    """A file's services, with a password for the database."""
    found: dict[str, Any] = document(name, {"POSTGRES_PASSWORD": "trusted", **given})["services"]
    return found
