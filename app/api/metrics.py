"""What Prometheus scrapes, at /metrics and /api/v1/metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from app.api.dependencies import CurrentEngine
from app.telemetry.metrics import exposition

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, engine: CurrentEngine) -> Response:
    """The service's state and its requests, in Prometheus' text format or OpenMetrics."""
    content, media_type = exposition(engine, request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
