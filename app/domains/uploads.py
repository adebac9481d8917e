"""Uploads from their arrival to the domain that is made of them, and their end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import get_args

from sqlalchemy import Engine, Text, cast
from sqlmodel import Session, col, select

from app import shapes
from app.db import now, reading, writing
from app.domains import files
from app.domains.files import Sent
from app.domains.shapes import Guess, KeptDomain, MendShape, Upload, UploadCheck, UploadedFile, UploadMapping, UploadQuestion
from app.errors import Fault, Invalid, NotFound, Refused
from app.records.queries import next_cursor
from app.settings import Settings
from app.tables import DomainRow, ExperimentRow, RunRow, UploadRow
from opcod.config import ColumnsConfig, DomainConfig, VerifierConfig
from opcod.errors import DataError
from opcod.tasks.columns import guess_columns, guess_verifier
from opcod.tasks.inspection import Finding
from opcod.tasks.preparing import MENDS, Mend, Plan, Prepared, lines, prepare
from opcod.tasks.questions import load_domain
from opcod.types import Split

SPLITS: tuple[Split, ...] = get_args(Split)
HELD_OUT = "held out of train"
LONGEST_SAMPLE = 2_000
RUNS_TOLD = 5
MOST_CHECKED = 100
"""Answers of `check`, of some KB each, that are remembered: an upload's files are the same for ever, and reading them takes long."""
_CHECKED: dict[tuple[Path, str], UploadCheck] = {}
ADVICE: Mapping[Mend, str] = {
    "unanswerable": "Choose another column or verifier, mend the file, or have these rows dropped.",
    "long_prompts": "Have them dropped, or raise `generation.max_prompt_tokens` in the experiment.",
    "duplicates": "Have all but the first dropped; where the answers differ, mend the file.",
    "leaks": "Have them dropped: a question stays in test before validation before train.",
    "ids": "Have the questions numbered anew, or choose no id column.",
}
"""What to do about a finding, by what mends it."""


def receive(engine: Engine, settings: Settings, sent: Mapping[Split, Sent], *, owner: str) -> int:
    """Take files in; the upload's number.

    Raises:
        Invalid: there is no train among them, or one cannot be read; a fault has the split as its field and names the line.
        NoRoom: the disk is full.
    """
    if "train" not in sent:
        raise Invalid([Fault("train", "There is no file for train.", "Choose at least the file with the training questions.")])
    most_bytes = int(settings.upload_megabytes * 1024**2)
    folder, found, rows = files.receive(settings.uploads_folder, sent, most_bytes)
    columns = guess_columns(rows["train"])
    guess = Guess(columns=columns, verifier=VerifierConfig(kind=guess_verifier(rows["train"], columns.answer)))
    try:
        with writing(engine) as session:
            row = UploadRow(owner=owner, folder=folder, files=[asdict(one) for one in found], guess=guess.model_dump())
            session.add(row)
            session.flush()
            assert row.id is not None
            return row.id
    except BaseException:
        files.remove(settings.uploads_folder / folder)
        raise


def check(session: Session, settings: Settings, upload_id: int, mapping: UploadMapping | None = None) -> UploadCheck:
    """What a domain would be with this mapping, with what was guessed where it says nothing; nothing is stored.

    Raises:
        NotFound
        Invalid: the files are gone.
    """
    row = _row(session, upload_id)
    mapping = mapping or UploadMapping(name="domain")
    key = (settings.uploads_folder / row.folder, mapping.model_dump_json())
    found = _CHECKED.get(key)
    if found is None:
        found = _check(_prepare(settings, row, mapping)[1], mapping)
        if len(_CHECKED) >= MOST_CHECKED:
            _CHECKED.clear()
        _CHECKED[key] = found
    return found


def _check(prepared: Prepared, mapping: UploadMapping) -> UploadCheck:
    return UploadCheck(
        ready=prepared.after.usable,
        splits=[shapes.SplitShape.model_validate(split) for split in prepared.after.splits],
        findings=[_told(finding) for finding in prepared.after.findings],
        mended=[_told(finding) for finding in prepared.mended],
        mends=[
            MendShape(name=name, rows=prepared.concerned[name], chosen=name in mapping.mend)
            for name in get_args(Mend)
            if name in prepared.concerned
        ],
        sample=[
            UploadQuestion(
                id=question.id,
                prompt=question.prompt[:LONGEST_SAMPLE],
                answer=question.answer,
                system=(question.system or "")[:LONGEST_SAMPLE] or None,
            )
            for question in prepared.after.sample
        ],
    )


def save(engine: Engine, settings: Settings, upload_id: int, mapping: UploadMapping) -> int:
    """Make a domain of the upload; the domain's number. Its files are read back as training would before it is kept.

    Raises:
        NotFound
        Refused: it was made already.
        Invalid: what keeps it from being a domain.
        NoRoom: the disk is full.
    """
    with reading(engine) as session:
        row = _row(session, upload_id)
    _refuse_twice(row)
    config, prepared = _prepare(settings, row, mapping)
    if not prepared.after.usable:
        stops = [finding for finding in prepared.after.findings if finding.severity == "stops"]
        raise Invalid([Fault(one.kind, one.message, one.advice) for one in map(_told, stops)])
    folder = f"{mapping.name}-{token_hex(6)}"
    texts = {split: lines(questions, config.system_prompt) for split, questions in prepared.splits.items()}
    try:
        with files.written(settings.domains_folder, folder, texts) as draft:
            load_domain(_kept_config(config, str(draft)))
    except DataError as error:
        raise Invalid([Fault(error.field or "", error.message, error.advice)]) from None
    kept = _kept_config(config, str(settings.domains_folder / folder))
    try:
        with writing(engine) as session:
            row = _row(session, upload_id, lock=True)
            _refuse_twice(row)
            domain = DomainRow(name=kept.name, train=kept.train, validation=kept.validation, test=kept.test, verifier=kept.verifier.kind)
            session.add(domain)
            session.flush()
            assert domain.id is not None
            row.domain_id, row.saved_at = domain.id, now()
            row.kept = {
                "folder": folder,
                "config": kept.model_dump(mode="json"),
                "questions": {split: len(prepared.splits[split]) for split in SPLITS},
                "mended": {name: count for name, count in prepared.concerned.items() if name in mapping.mend},
            }
            return domain.id
    except BaseException:
        files.remove(settings.domains_folder / folder)
        raise


def delete(engine: Engine, settings: Settings, upload_id: int) -> None:
    """Remove an upload, and the domain that was made of it, with their files.

    Raises:
        NotFound
        Refused: runs refer to it; ended ones too, for they can be done over.
    """
    with writing(engine) as session:
        row = _row(session, upload_id, lock=True)
        folders = [settings.uploads_folder / row.folder]
        if row.kept is not None:
            folders.append(settings.domains_folder / row.kept["folder"])
            used = runs_with(session, row.kept["folder"])
            if used:
                told = ", ".join(str(number) for number in used[:RUNS_TOLD]) + (", ..." if len(used) > RUNS_TOLD else "")
                words = f"Domain {row.kept['config']['name']} is used by {'run' if len(used) == 1 else 'runs'} {told}."
                raise Refused(words, "Delete these runs first, or leave it: a domain takes little room.")
        domain = session.get(DomainRow, row.domain_id) if row.domain_id is not None else None
        session.delete(row)
        session.flush()
        if domain is not None:
            session.delete(domain)
    for folder in folders:
        files.remove(folder)


def runs_with(session: Session, folder: str) -> list[int]:
    """The newest runs, whatever their state, whose experiments name files in a domain's folder. Its name stands nowhere else."""
    rows = select(col(RunRow.id)).join(ExperimentRow, col(RunRow.experiment_id) == col(ExperimentRow.id))
    rows = rows.where(col(RunRow.deleted_at).is_(None), cast(col(ExperimentRow.config), Text).contains(folder, autoescape=True))
    return [number for number in session.exec(rows.order_by(col(RunRow.id).desc()).limit(RUNS_TOLD + 1)) if number is not None]


def upload(session: Session, upload_id: int) -> Upload:
    """One upload.

    Raises:
        NotFound
    """
    return as_shape(_row(session, upload_id))


def uploads(session: Session, *, before: int | None = None, limit: int = 50) -> shapes.Listing[Upload]:
    """Uploads, newest first."""
    rows = select(UploadRow).order_by(col(UploadRow.id).desc())
    if before is not None:
        rows = rows.where(col(UploadRow.id) < before)
    found = session.exec(rows.limit(limit + 1)).all()
    return shapes.Listing(items=[as_shape(row) for row in found[:limit]], next_cursor=next_cursor(found, limit))


def unsaved(session: Session, limit: int = 20) -> list[Upload]:
    """The newest uploads of which nothing was made yet."""
    rows = select(UploadRow).where(col(UploadRow.domain_id).is_(None)).order_by(col(UploadRow.id).desc())
    return [as_shape(row) for row in session.exec(rows.limit(limit))]


def of_domains(session: Session, domain_ids: list[int]) -> dict[int, Upload]:
    """Domain -> the upload that it was made of, for those that were."""
    rows = session.exec(select(UploadRow).where(col(UploadRow.domain_id).in_(domain_ids))).all()
    return {row.domain_id: as_shape(row) for row in rows if row.domain_id is not None}


def config_of(session: Session, domain_id: int) -> DomainConfig | None:
    """The settings of a domain that was made of an upload; None for any other."""
    found = of_domains(session, [domain_id]).get(domain_id)
    return DomainConfig.model_validate(found.domain.config) if found and found.domain else None


def as_shape(row: UploadRow) -> Upload:
    """A row as it is told of."""
    assert row.id is not None
    kept = None
    if row.kept is not None and row.domain_id is not None and row.saved_at is not None:
        kept = KeptDomain.model_validate(row.kept | {"domain_id": row.domain_id, "saved_at": row.saved_at})
    files_ = [UploadedFile.model_validate(one) for one in row.files]
    return Upload(id=row.id, owner=row.owner, created_at=row.created_at, files=files_, guess=Guess.model_validate(row.guess), domain=kept)


def _row(session: Session, upload_id: int, *, lock: bool = False) -> UploadRow:
    rows = select(UploadRow).where(col(UploadRow.id) == upload_id)
    row = session.exec(rows.with_for_update() if lock else rows).first()
    if row is None:
        raise NotFound("upload", upload_id)
    return row


def _refuse_twice(row: UploadRow) -> None:
    if row.kept is not None:
        words = f"Upload {row.id} is domain {row.kept['config']['name']} already, and domains do not change."
        raise Refused(words, "Upload the files again to map them otherwise.")


def _prepare(settings: Settings, row: UploadRow, mapping: UploadMapping) -> tuple[DomainConfig, Prepared]:
    """The mapping as settings of a domain, and the splits by them.

    Raises:
        Invalid
    """
    guess = Guess.model_validate(row.guess)
    brought = {one["split"]: one for one in row.files}
    config = DomainConfig.model_validate(
        {split: brought[split]["name"] if split in brought else HELD_OUT for split in SPLITS}
        | {"name": mapping.name, "columns": mapping.columns or guess.columns, "verifier": mapping.verifier or guess.verifier}
        | {"system_prompt": mapping.system_prompt or None}
    )
    try:
        folder = settings.uploads_folder / row.folder
        most_bytes = int(settings.upload_megabytes * 1024**2)
        rows = {split: files.read(folder / one["stored"], one["name"], most_bytes) for split, one in brought.items()}
        plan = Plan(frozenset(mapping.mend), {"validation": mapping.hold_out.validation, "test": mapping.hold_out.test})
        return config, prepare(config, rows, plan)
    except DataError as error:
        raise Invalid([Fault("", error.message, error.advice)]) from None


def _told(finding: Finding) -> shapes.DataFinding:
    """With the advice that fits somebody who can have it mended on the spot."""
    told = shapes.DataFinding.model_validate(finding)
    mend = MENDS.get(finding.kind)
    return told.model_copy(update={"advice": ADVICE[mend]}) if mend else told


def _kept_config(config: DomainConfig, folder: str) -> DomainConfig:
    """The settings with which its three written files are read."""
    sources = {split: f"{folder}/{split}.jsonl" for split in SPLITS}
    return DomainConfig.model_validate(config.model_dump() | sources | {"columns": ColumnsConfig()})
