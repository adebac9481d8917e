"""Answers that are files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import StreamingResponse

from app.records import exports


def downloads(*formats: exports.Format) -> dict[int | str, dict[str, Any]]:
    """How the schema tells of an answer that is a file in one of these formats."""
    content = {exports.MEDIA_TYPES[format].partition(";")[0]: {"schema": {"type": "string", "format": "binary"}} for format in formats}
    return {200: {"description": "The file, streamed.", "content": content}}


def download(batches: exports.Batches, format: exports.Format, fields: Mapping[str, str], name: str) -> StreamingResponse:
    """The batches as a file called `name`."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.{format}"', "Cache-Control": "no-store"}
    return StreamingResponse(exports.stream(batches, format, fields), media_type=exports.MEDIA_TYPES[format], headers=headers)
