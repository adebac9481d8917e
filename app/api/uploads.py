"""Uploads: bring a domain's files, see what is in them, make a domain of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Path, Request, Response, UploadFile, status

from app import shapes
from app.access import audit
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, CurrentSettings, Cursor, Limit, Reader
from app.db import reading
from app.domains import uploads
from app.domains.files import Sent
from app.domains.shapes import Upload, UploadCheck, UploadMapping
from app.records import queries
from opcod.types import Split

router = APIRouter(tags=["library"])

UploadId = Annotated[int, Path(description="The upload's number.", ge=1, le=LARGEST_ID)]
TrainFile = Annotated[UploadFile, File(description="Training questions: JSONL, CSV or Parquet, told by the ending of its name.")]
OtherFile = Annotated[UploadFile | None, File(description="The same; without it, hold some of train out when you save.")]


@router.post("/uploads", status_code=status.HTTP_201_CREATED)
def create_upload(
    request: Request,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    train: TrainFile,
    validation: OtherFile = None,
    test: OtherFile = None,
) -> Upload:
    """Bring the files of a domain. They are read from beginning to end; one that cannot be is refused with its line."""
    upload_id = uploads.receive(engine, settings, sent(train, validation, test), owner=person.name)
    audit.about(request, f"upload {upload_id}")
    with reading(engine) as session:
        return uploads.upload(session, upload_id)


@router.get("/uploads")
def upload_list(session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[Upload]:
    """Uploads of everybody, newest first."""
    return uploads.uploads(session, before=queries.cursor(cursor), limit=limit)


@router.get("/uploads/{upload_id}")
def read_upload(upload_id: UploadId, session: Reader) -> Upload:
    """One upload: its files, their columns, what likely stands where, and the domain that was made of it."""
    return uploads.upload(session, upload_id)


@router.post("/uploads/{upload_id}:check")
def check_upload(upload_id: UploadId, session: Reader, settings: CurrentSettings, body: UploadMapping) -> UploadCheck:
    """What a domain would be with this mapping, and what is wrong with it; nothing is stored."""
    return uploads.check(session, settings, upload_id, body)


@router.post("/uploads/{upload_id}:save", status_code=status.HTTP_201_CREATED)
def save_upload(upload_id: UploadId, engine: CurrentEngine, settings: CurrentSettings, body: UploadMapping) -> Upload:
    """Make a domain of it, once. `domain.config` of the answer belongs among an experiment's `domains`."""
    uploads.save(engine, settings, upload_id, body)
    with reading(engine) as session:
        return uploads.upload(session, upload_id)


@router.delete("/uploads/{upload_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete_upload(upload_id: UploadId, engine: CurrentEngine, settings: CurrentSettings) -> Response:
    """Delete it, and the domain that was made of it. Refused while there are runs with that domain."""
    uploads.delete(engine, settings, upload_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


def sent(train: UploadFile | None, validation: UploadFile | None, test: UploadFile | None) -> dict[Split, Sent]:
    """The files that were chosen; a browser sends an empty one without a name for each that was not."""
    given: dict[Split, UploadFile | None] = {"train": train, "validation": validation, "test": test}
    return {split: Sent(file.filename, file.file) for split, file in given.items() if file is not None and file.filename}
