"""Making a specialist: the form, and the live page of one that is being made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from app import shapes
from app.library import specialists
from app.library.shapes import Specialist
from app.library.specialists import NewSpecialist
from app.records import queries
from app.web.form_faults import Faults, SentForm, read
from opcod.students.sft_config import SftConfig
from opcod.students.specialist_config import LookConfig, SpecialistConfig

DOMAINS = 200
"""Domains that the form offers."""
STATES: Mapping[str, str] = {
    "queued": "Waiting for a worker", "running": "Under way", "completed": "Done", "failed": "Failed", "cancelled": "Stopped",
}  # fmt: skip
SFT_FIELDS = ("epochs", "batch_size", "learning_rate", "max_tokens", "micro_batch_tokens", "warmup_ratio", "weight_decay", "seed")
LOOK_FIELDS = ("questions", "samples", "max_response_tokens")
ABOUT: Mapping[str, str] = {
    **{f"sft.{name}": SftConfig.model_fields[name].description or "" for name in SFT_FIELDS},
    **{f"look.{name}": LookConfig.model_fields[name].description or "" for name in LOOK_FIELDS},
}


@dataclass(frozen=True, slots=True)
class SpecialistForm(SentForm):
    """The form of a new one."""

    domains: tuple[shapes.DomainShape, ...]

    def about(self, name: str) -> str:
        return ABOUT.get(name, "")


@dataclass(frozen=True, slots=True)
class SpecialistLive:
    """What changes while it is made."""

    one: Specialist
    word: str
    active: bool
    sure: bool
    """The intervals before and after are apart."""


@dataclass(frozen=True, slots=True)
class SpecialistPage:
    """The whole page."""

    live: SpecialistLive
    settings: tuple[tuple[str, str], ...]


def form(session: Session, sent: Mapping[str, str], faults: Faults | None = None) -> SpecialistForm:
    """The form as it is to be shown."""
    return SpecialistForm(sent=sent, faults=faults or {}, domains=tuple(queries.domains(session, limit=DOMAINS).items))


def start(session: Session, model: str, domain: str, source: int | None) -> SpecialistForm:
    """The form as it opens: with the paper's settings, or with those of an earlier one.

    Raises:
        NotFound: there is no such earlier one.
    """
    sent = {"model": model, "domain_id": domain, "learn": "solutions", "device": "auto", "dtype": "float32"}
    sft, look = SftConfig(), LookConfig()
    if source is not None:
        config = specialists.config_of(session, source)
        known = queries.domains(session, limit=DOMAINS).items
        named = next((str(one.id) for one in known if one.name == config.domains[0].name and one.train == config.domains[0].train), "")
        sent |= {"model": config.model, "domain_id": named, "learn": config.learn, "device": config.device, "dtype": config.dtype}
        sft, look = config.sft, config.look
    sent |= {f"sft.{name}": _text(getattr(sft, name)) for name in SFT_FIELDS}
    sent |= {f"look.{name}": _text(getattr(look, name)) for name in LOOK_FIELDS}
    sent |= {"adapters": str(sft.adapters.rank) if sft.adapters else ""}
    return form(session, sent)


def read_form(sent: Mapping[str, str]) -> tuple[NewSpecialist | None, Faults]:
    """What the form asks for, or what is wrong with it."""
    rank = sent.get("adapters", "").strip()
    sft: dict[str, Any] = {name: sent[f"sft.{name}"].strip() for name in SFT_FIELDS if f"sft.{name}" in sent}
    sft["adapters"] = {"rank": rank, "alpha": 2 * int(rank) if rank.isdecimal() and len(rank) < 6 else 16} if rank else None
    look = {name: sent[f"look.{name}"].strip() for name in LOOK_FIELDS if f"look.{name}" in sent}
    names = ("name", "model", "domain_id", "learn", "device", "dtype")
    plain = {name: sent[name].strip() for name in names if sent.get(name, "").strip()}
    asked, faults = read(NewSpecialist, {**plain, "sft": sft, "look": look, "gradient_checkpointing": sent.get("checkpointing") == "1"})
    if "sft.adapters.rank" in faults:
        faults = {**faults, "adapters": faults["sft.adapters.rank"]}
    return asked, faults


def live(session: Session, job_id: int) -> SpecialistLive:
    """The live part of the page.

    Raises:
        NotFound
    """
    one = specialists.specialist(session, job_id)
    before, after = one.before, one.after
    sure = before is not None and after is not None and (after.low > before.high or after.high < before.low)
    return SpecialistLive(one, STATES[one.state], one.state in ("queued", "running"), sure)


def page(session: Session, job_id: int) -> SpecialistPage:
    """The whole page.

    Raises:
        NotFound
    """
    return SpecialistPage(live(session, job_id), _settings(specialists.config_of(session, job_id)))


def _settings(config: SpecialistConfig) -> tuple[tuple[str, str], ...]:
    sft = config.sft
    return (
        ("learns", "worked solutions" if config.learn == "solutions" else "bare answers"),
        ("epochs", str(sft.epochs)),
        ("batch", str(sft.batch_size)),
        ("learning rate", f"{sft.learning_rate:g}, {sft.schedule}"),
        ("weights", f"LoRA, rank {sft.adapters.rank}" if sft.adapters else "all of them"),
        ("longest example", f"{sft.max_tokens} tokens"),
        ("seed", str(sft.seed)),
        ("device", f"{config.device}, {config.dtype}"),
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
