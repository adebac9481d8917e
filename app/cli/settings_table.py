"""Every setting in one table: for docs/operate.md, and with its present value for whoever runs the service."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from sqlalchemy import make_url

from app.settings import PREFIX, Settings, WorkerSettings

HIDDEN = "***"
BEGIN, END = "<!-- settings, made by `make docs` -->\n\n", "\n<!-- end of settings -->"


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable."""

    variable: str
    default: str
    meaning: str
    worker_only: bool


def settings_table() -> list[Setting]:
    """All of them, the worker's own last."""
    return [
        Setting(
            f"{PREFIX}{name}".upper(),
            _shown(field.default if field.default is not PydanticUndefined else field.get_default(call_default_factory=True)),
            " ".join((field.description or "").split()),
            name not in Settings.model_fields,
        )
        for name, field in WorkerSettings.model_fields.items()
    ]


def markdown() -> str:
    """The table as it stands in docs/operate.md."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for setting in settings_table():
        default = f"`{setting.default}`" if setting.default else "empty"
        meaning = setting.meaning.replace("|", "\\|") + (" Workers only." if setting.worker_only else "")
        lines.append(f"| `{setting.variable}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def write_into(document: Path) -> None:
    """Bring the table between the document's marks up to date."""
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    document.write_text(before + begin + markdown() + end + after, encoding="utf-8")


def present(settings: WorkerSettings) -> dict[str, str]:
    """Variable -> value now; what is secret is not told."""
    return {f"{PREFIX}{name}".upper(): _told(name, getattr(settings, name)) for name in WorkerSettings.model_fields}


def _told(name: str, value: Any) -> str:
    if name.endswith("_url") and isinstance(value, str) and "://" in value and "@" in value:
        return make_url(value).render_as_string(hide_password=True)
    return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return HIDDEN
    if value is None or value in ((), [], ""):
        return ""
    if isinstance(value, list | tuple):
        return json.dumps(value) if isinstance(value, list) else ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    write_into(Path(sys.argv[1]))
