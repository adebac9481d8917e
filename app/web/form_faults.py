"""What is wrong with a small form, by field, in words for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import Fault, Invalid, NoRoom, NotFound, Refused
from opcod.config import config_faults

M = TypeVar("M", bound=BaseModel)
Faults = Mapping[str, str]
"""Field -> what is wrong with it and what to do; "" for what belongs to no field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentForm:
    """A form with what was sent, or what it starts with, and what is wrong with it."""

    sent: Mapping[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=dict)

    def value(self, name: str) -> str:
        return self.sent.get(name, "")

    def fault(self, name: str) -> str:
        return self.faults.get(name, "")


def read(model: type[M], data: Mapping[str, Any]) -> tuple[M | None, Faults]:
    """The model, or what keeps `data` from being one."""
    try:
        return model.model_validate(data), {}
    except ValidationError as error:
        found: dict[str, str] = {}
        for path, message in config_faults(error):
            found.setdefault(path, _sentence(message))
        return None, found


def of_faults(faults: Iterable[Fault]) -> Faults:
    """The service's own faults; several of one field stand together."""
    found: dict[str, str] = {}
    for fault in faults:
        text = f"{fault.message} {fault.advice}".strip()
        found[fault.field] = f"{found[fault.field]} {text}" if fault.field in found else text
    return found


def of_error(error: Invalid | NotFound | NoRoom | Refused) -> Faults:
    """Why the service would not do what a form asks for; what is not there is the domain that it names."""
    match error:
        case Invalid():
            return of_faults(error.faults)
        case NotFound():
            return {"domain_id": str(error)}
        case _:
            return {"": f"{error} {error.advice}"}


def _sentence(message: str) -> str:
    if message.startswith("String should match pattern '^[A-Za-z0-9]"):
        return "Letters, digits, `_`, `.` and `-`, at most 64; the first a letter or digit."
    return f"{message[:1].upper()}{message[1:]}."
