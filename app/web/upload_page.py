"""What the page of an upload shows: its files and columns, the form that maps them, and what a domain by it would be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from sqlmodel import Session

from app.domains import uploads
from app.domains.shapes import ColumnShape, MendShape, Upload, UploadCheck, UploadMapping
from app.errors import Fault, Invalid
from app.settings import Settings
from app.web.library_page import SplitCard, split_bars
from opcod.config import VerifierConfig, config_faults
from opcod.tasks.inspection import LONG_PROMPT
from opcod.tasks.preparing import Mend
from opcod.types import Split

ROLES: tuple[tuple[str, str, str], ...] = (
    ("prompt", "Question", "The text that a student is given, options included."),
    ("answer", "Answer", "What its answer is checked against."),
    ("id", "Id", "Tells questions apart; without one they are numbered."),
    ("system", "System prompt", "Of each row; without it the one below holds for all."),
    ("solution", "Worked solution", "Fine-tuning a specialist learns from it; co-distillation never sees it."),
)
NEEDED = ("prompt", "answer")
FIELDS = (*(role for role, _, _ in ROLES), "name", "verifier", "system_prompt", "hold_validation", "hold_test")
VERIFIERS: tuple[str, ...] = get_args(VerifierConfig.model_fields["kind"].annotation)
MEND_WORDS: Mapping[Mend, tuple[str, str]] = {
    "unanswerable": ("Drop rows that cannot be used", "They have no question, or no answer that the verifier can check."),
    "long_prompts": (f"Drop questions of more than {LONG_PROMPT:,} characters", "A run refuses prompts beyond its limit."),
    "duplicates": ("Drop repetitions", "Of questions that stand twice in a split the first is kept."),
    "leaks": ("Drop what leaks between splits", "A question stays in test before validation before train."),
    "ids": ("Number the questions anew", "Ids that stand twice would mix up what was said of them."),
}


@dataclass(frozen=True, slots=True)
class UploadsBox:
    """The form that brings files, with what was wrong with those that were sent."""

    most_megabytes: float
    unsaved: tuple[Upload, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleField:
    """A select of columns; options are places among the columns, for names may hold anything."""

    role: str
    label: str
    hint: str
    chosen: str
    needed: bool


@dataclass(frozen=True, slots=True)
class MendLine:
    """Something to mend, in words."""

    mend: MendShape
    label: str
    hint: str


@dataclass(frozen=True, slots=True)
class CheckView:
    """What a domain would be; `faults` where not even that can be said."""

    upload_id: int
    check: UploadCheck | None
    splits: tuple[SplitCard, ...]
    mends: tuple[MendLine, ...]
    faults: tuple[Fault, ...]
    may_save: bool


@dataclass(frozen=True, slots=True)
class UploadPage:
    """The whole page."""

    upload: Upload
    columns: tuple[ColumnShape, ...]
    roles: tuple[RoleField, ...]
    values: Mapping[str, str]
    held_out: tuple[Split, ...]
    """Splits that were not brought."""
    check: CheckView
    verifiers: tuple[str, ...] = VERIFIERS
    faults: Mapping[str, str] = field(default_factory=dict)

    def fault(self, name: str) -> str:
        """What is wrong with a field."""
        return self.faults.get(name, "")


def uploads_box(session: Session, settings: Settings, faults: Iterable[Fault] = ()) -> UploadsBox:
    """The form that brings files."""
    return UploadsBox(settings.upload_megabytes, tuple(uploads.unsaved(session)), tuple(faults))


def upload_page(
    session: Session, settings: Settings, upload_id: int, pairs: Iterable[tuple[str, str]] | None, *, may_save: bool
) -> UploadPage:
    """An upload with its form as it was guessed, or as it was sent.

    Raises:
        NotFound
    """
    upload = uploads.upload(session, upload_id)
    columns = _columns(upload)
    values, mends = (_guessed(upload, columns), []) if pairs is None else _sent(pairs)
    mapping, faults = read_mapping(upload, columns, values, mends)
    brought = {file.split for file in upload.files}
    return UploadPage(
        upload=upload,
        columns=columns,
        roles=tuple(RoleField(role, label, hint, values.get(role, ""), role in NEEDED) for role, label, hint in ROLES),
        values=values,
        held_out=tuple(split for split in get_args(Split) if split not in brought),
        check=_check(session, settings, upload, mapping or _nameless(upload, columns, values, mends), may_save=may_save),
        faults={fault.field: fault.message for fault in faults},
    )


def read_mapping(
    upload: Upload, columns: tuple[ColumnShape, ...], values: Mapping[str, str], mends: list[str]
) -> tuple[UploadMapping | None, tuple[Fault, ...]]:
    """The form as REST takes it, or what is wrong with it, by the form's names."""
    chosen = {role: _column(columns, values.get(role, "")) for role, _, _ in ROLES}
    missing = [Fault(role, "Choose a column.") for role in NEEDED if chosen[role] is None]
    if missing:
        return None, tuple(missing)
    same = upload.guess.verifier.kind == values.get("verifier")
    told: dict[str, Any] = {
        "name": values.get("name", "").strip(),
        "columns": chosen,
        "verifier": upload.guess.verifier if same else {"kind": values.get("verifier")},
        "system_prompt": values.get("system_prompt", "").replace("\r\n", "\n").strip() or None,
        "hold_out": {split: values.get(f"hold_{split}", "").strip() or 0 for split in ("validation", "test")},
        "mend": mends,
    }
    try:
        return UploadMapping.model_validate(told), ()
    except ValidationError as error:
        names = {"hold_out.validation": "hold_validation", "hold_out.test": "hold_test", "verifier.kind": "verifier"}
        return None, tuple(Fault(names.get(path, path), _plain(path, message)) for path, message in config_faults(error))


def mapping_of(session: Session, upload_id: int, pairs: Iterable[tuple[str, str]]) -> tuple[UploadMapping | None, tuple[Fault, ...]]:
    """What a form that was sent comes to.

    Raises:
        NotFound
    """
    upload = uploads.upload(session, upload_id)
    values, mends = _sent(pairs)
    return read_mapping(upload, _columns(upload), values, mends)


def _check(session: Session, settings: Settings, upload: Upload, mapping: UploadMapping | None, *, may_save: bool) -> CheckView:
    if mapping is None:
        return CheckView(upload.id, None, (), (), (Fault("", "Choose the columns of question and answer."),), may_save)
    try:
        check = uploads.check(session, settings, upload.id, mapping)
    except Invalid as invalid:
        return CheckView(upload.id, None, (), (), invalid.faults, may_save)
    mends = tuple(MendLine(mend, *MEND_WORDS[mend.name]) for mend in check.mends)
    return CheckView(upload.id, check, tuple(SplitCard(split, split_bars(split)) for split in check.splits), mends, (), may_save)


def _nameless(upload: Upload, columns: tuple[ColumnShape, ...], values: Mapping[str, str], mends: list[str]) -> UploadMapping | None:
    """The mapping without its name, which changes nothing in what is found."""
    return read_mapping(upload, columns, {**values, "name": "domain"}, mends)[0]


def _columns(upload: Upload) -> tuple[ColumnShape, ...]:
    """Of all files, each once."""
    found: dict[str, ColumnShape] = {}
    for file in upload.files:
        for column in file.columns:
            found.setdefault(column.name, column)
    return tuple(found.values())


def _column(columns: tuple[ColumnShape, ...], place: str) -> str | None:
    return columns[int(place)].name if re.fullmatch(r"\d{1,4}", place, re.ASCII) and int(place) < len(columns) else None


def _guessed(upload: Upload, columns: tuple[ColumnShape, ...]) -> dict[str, str]:
    places = {column.name: str(place) for place, column in enumerate(columns)}
    guess = upload.guess.columns.model_dump()
    brought = {file.split for file in upload.files}
    rows = next(file.rows for file in upload.files if file.split == "train")
    return {
        "name": _name(upload),
        "verifier": upload.guess.verifier.kind,
        "system_prompt": "",
        "hold_validation": "" if "validation" in brought else str(max(1, min(60, rows // 10))),
        "hold_test": "" if "test" in brought else str(max(1, min(200, rows // 10))),
        **{role: places.get(guess[role] or "", "") for role, _, _ in ROLES},
    }


def _sent(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    given = list(pairs)
    values = dict.fromkeys(FIELDS, "") | {name: value for name, value in given if name in FIELDS}
    return values, list(dict.fromkeys(value for name, value in given if name == "mend"))


def _name(upload: Upload) -> str:
    """What the file's name says besides that it is for training."""
    train = next(file.name for file in upload.files if file.split == "train")
    words = [word for word in re.split(r"[^A-Za-z0-9]+", Path(train).stem) if word and word.lower() not in ("train", "training", "data")]
    return "-".join(words)[:64] or f"domain{upload.id}"


def _plain(path: str, message: str) -> str:
    if path == "name":
        return "Letters, digits, `_`, `.` and `-`, at most 64, the first a letter or digit."
    return message
