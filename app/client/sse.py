"""Server-sent events from their lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from app.shapes import StreamEvent


@dataclass(slots=True)
class EventReader:
    """Takes lines one by one and gives an event at the end of each; keep-alive comments are passed over."""

    _fields: dict[str, str] = field(default_factory=dict)

    def take(self, line: str) -> StreamEvent | None:
        """One line without its end; an event where the line ended one."""
        if not line:
            fields, self._fields = self._fields, {}
            return _event(fields)
        name, _, value = line.partition(":")
        if name:  # else a comment
            value = value.removeprefix(" ")
            self._fields[name] = f"{self._fields[name]}\n{value}" if name == "data" and name in self._fields else value
        return None


def _event(fields: dict[str, str]) -> StreamEvent | None:
    if "data" not in fields or "id" not in fields:
        return None
    data = json.loads(fields["data"])
    return StreamEvent(id=int(fields["id"]), kind=data.pop("kind"), seq=data.pop("seq"), at=data.pop("at"), data=data)
