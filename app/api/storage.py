"""What runs keep: files, exports to download, notices; and what all of them take."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import CurrentStore, Reader, RunId
from app.artefacts import bundle
from app.records import artefact_queries, queries

router = APIRouter(tags=["records"], route_class=ConditionalRoute)

TAR = "application/x-tar"
Student = Annotated[str, Path(description="Name of the student.", max_length=200)]


@router.get("/runs/{run_id}/artefacts")
def artefacts(run_id: RunId, session: Reader, store: CurrentStore) -> shapes.Listing[shapes.Artefact]:
    """Every file that the run keeps in the store."""
    return artefact_queries.artefacts(store, queries.run_row(session, run_id).folder)


@router.get("/runs/{run_id}/exports")
def exports(run_id: RunId, session: Reader, store: CurrentStore) -> shapes.Listing[shapes.ExportShape]:
    """The trained students, as ordinary model folders."""
    return shapes.Listing(items=artefact_queries.exports(store, queries.run_row(session, run_id).folder))


@router.get(
    "/runs/{run_id}/exports/{student}",
    response_class=StreamingResponse,
    responses={200: {"description": "The folder, streamed.", "content": {TAR: {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_export(run_id: RunId, student: Student, session: Reader, store: CurrentStore) -> StreamingResponse:
    """A trained student's model folder (safetensors, configuration, tokenizer) as a tar file."""
    return send_export(store, run_id, queries.run_row(session, run_id).folder, student)


def send_export(store: CurrentStore, run_id: int, folder: str, student: str) -> StreamingResponse:
    """The answer that `download_export` and the run's page give.

    Raises:
        NotFound: there is no such export, or it is not whole yet.
        StoreError
    """
    sizes = artefact_queries.export_files(store, folder, student)
    name = f"run-{run_id}-{''.join(c if c.isascii() and (c.isalnum() or c in '-_.') else '_' for c in student)}"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.tar"',
        "Content-Length": str(bundle.tar_size(sizes, name)),
        "Cache-Control": "no-store",
    }
    prefix = f"{folder}/{artefact_queries.EXPORTS}/{student}"
    return StreamingResponse(bundle.tar(store, prefix, sizes, name), media_type=TAR, headers=headers)


@router.get("/runs/{run_id}/notices", **POLLED)
def notices(run_id: RunId, session: Reader) -> shapes.Listing[shapes.NoticeShape]:
    """What happened to the run besides its training, newest first: damaged checkpoints, a store that was away, a log that was cut."""
    queries.run_row(session, run_id)
    return artefact_queries.notices_of(session, run_id)


@router.get("/storage", **POLLED)
def storage(session: Reader) -> shapes.Storage:
    """What all runs take, of what budget, and the runs that take most."""
    return artefact_queries.storage(session)
