"""Students of the library: listed, registered, uploaded, kept, looked at, given out, forgotten."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from app import shapes
from app.api.conditional import ConditionalRoute
from app.api.dependencies import (
    LARGEST_ID,
    CurrentEngine,
    CurrentPerson,
    CurrentSettings,
    CurrentStore,
    Cursor,
    Limit,
    Reader,
)
from app.api.storage import TAR
from app.db import reading
from app.library import students, taking
from app.library.students import KeepStudent, NewStudent
from app.records import queries
from opcod.config import Name

router = APIRouter(tags=["library"], route_class=ConditionalRoute)

StudentId = Annotated[int, Path(description="The student's id.", ge=1, le=LARGEST_ID)]
BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


@router.get("/students")
def student_list(
    session: Reader, settings: CurrentSettings, cursor: Cursor = None, limit: Limit = 50
) -> shapes.Listing[shapes.StudentShape]:
    """Students that experiments named, that runs and fine-tunings made, or that somebody registered or brought, newest first."""
    return students.listing(session, settings, before=queries.cursor(cursor), limit=limit)


@router.post("/students", status_code=status.HTTP_201_CREATED)
def register(body: NewStudent, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> shapes.StudentShape:
    """Give a model a name: one of the hub, or a folder on the server. A folder is looked into first; with `keep` it is copied."""
    return _shape(engine, settings, taking.register(engine, settings, body, person=person.name))


@router.post("/uploads/students", status_code=status.HTTP_201_CREATED, openapi_extra=BODY)
async def upload(
    request: Request,
    engine: CurrentEngine,
    settings: CurrentSettings,
    person: CurrentPerson,
    name: Annotated[Name, Query(description="What to call it.")],
    native_domain: Annotated[Name | None, Query(description="Domain in which it is the stronger one.")] = None,
) -> shapes.StudentShape:
    """Bring a student: the body is its model folder as an uncompressed tar file, as downloads of students are."""
    with tempfile.TemporaryFile() as body:
        async for part in request.stream():
            await to_thread.run_sync(body.write, part)
        size = body.tell()
        body.seek(0)
        files = [("body.tar", body, size)]
        take = partial(taking.upload, engine, settings, name, native_domain, files, field="body", person=person.name)
        student_id = await to_thread.run_sync(take)
    return await to_thread.run_sync(_shape, engine, settings, student_id)


@router.get("/students/{student_id}")
def read(student_id: StudentId, session: Reader, settings: CurrentSettings) -> shapes.StudentShape:
    """One student."""
    return students.shape(students.get(session, student_id), settings)


@router.get("/students/{student_id}/check")
def student_check(student_id: StudentId, session: Reader, settings: CurrentSettings) -> shapes.StudentCheck:
    """Whether a student can be loaded, as far as its files tell now, and how large it is."""
    return students.check(students.get(session, student_id), settings)


@router.post("/students/{student_id}:keep", status_code=status.HTTP_201_CREATED)
def keep(
    student_id: StudentId,
    body: KeepStudent,
    engine: CurrentEngine,
    settings: CurrentSettings,
    store: CurrentStore,
    person: CurrentPerson,
) -> shapes.StudentShape:
    """Copy a student into the studio's home under a name of its own, so that it stays when its run is deleted or its folder changes."""
    return _shape(engine, settings, taking.keep(engine, settings, store, student_id, body.name, person=person.name))


@router.get(
    "/students/{student_id}/export",
    response_class=StreamingResponse,
    responses={200: {"description": "The folder, streamed.", "content": {TAR: {"schema": {"type": "string", "format": "binary"}}}}},
)
def export(student_id: StudentId, session: Reader, settings: CurrentSettings, store: CurrentStore) -> StreamingResponse:
    """A student's model folder as a tar file. `/uploads/students` takes it as it is."""
    name, size, parts = students.tar(students.get(session, student_id), settings, store)
    headers = {"Content-Disposition": f'attachment; filename="{name}.tar"', "Content-Length": str(size), "Cache-Control": "no-store"}
    return StreamingResponse(parts, media_type=TAR, headers=headers)


@router.delete("/students/{student_id}", status_code=status.HTTP_204_NO_CONTENT)
def forget(student_id: StudentId, engine: CurrentEngine, settings: CurrentSettings) -> Response:
    """Take a student off the list; a folder that the studio kept for it is deleted."""
    taking.forget(engine, settings, student_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


def _shape(engine: CurrentEngine, settings: CurrentSettings, student_id: int) -> shapes.StudentShape:
    with reading(engine) as session:
        return students.shape(students.get(session, student_id), settings)
