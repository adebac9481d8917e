"""Errors as RFC 9457 problem details under /api, as a page elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.artefacts import StoreError
from app.errors import Conflict, Invalid, NotFound
from opcod.errors import UserError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """One field at fault."""

    field: str = Field(description="Dotted path, as in `students.0.model`.")
    message: str = Field(description="What is wrong with it.")
    advice: str = Field("", description="What to do.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank", description="Always `about:blank`: the status says it all.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong.")
    advice: str | None = Field(None, description="What to do.")
    errors: list[FieldProblem] | None = Field(None, description="One entry for each field at fault.")
    state: str | None = Field(None, description="409: the run's status that refused the request.")
    id: str | None = Field(None, description="500: find it in the server's log.")


PageRenderer = Callable[[Request, Problem], Response]

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {}}} for status in (404, 409, 422)
}


def install(app: FastAPI, render_page: PageRenderer | None = None) -> None:
    """Answer every error with a problem: JSON under /api, and by `render_page` elsewhere where there is one."""

    def answer(request: Request, problem: Problem, headers: Any = None) -> Response:
        if render_page is not None and not request.url.path.startswith("/api/"):
            return render_page(request, problem)
        return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, media_type=MEDIA_TYPE)

    @app.exception_handler(Invalid)
    async def invalid(request: Request, error: Invalid) -> Response:
        errors = [FieldProblem(field=fault.field, message=fault.message, advice=fault.advice) for fault in error.faults]
        return answer(request, problem_of(422, "What was sent is not valid.", errors=errors))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        errors = [FieldProblem(field=_dotted(item["loc"]), message=item["msg"].removeprefix("Value error, ")) for item in error.errors()]
        return answer(request, problem_of(422, "What was sent is not valid.", errors=errors))

    @app.exception_handler(UserError)
    async def refused(request: Request, error: UserError) -> Response:
        errors = [FieldProblem(field=error.field or "", message=error.message, advice=error.advice)]
        return answer(request, problem_of(422, error.message, advice=error.advice, errors=errors))

    @app.exception_handler(StoreError)
    async def store_gone(request: Request, error: StoreError) -> Response:
        logger.error("The artefact store did not answer %s %s: %s", request.method, request.url.path, error)
        return answer(request, problem_of(503, error.message, advice=error.advice))

    @app.exception_handler(NotFound)
    async def missing(request: Request, error: NotFound) -> Response:
        return answer(request, problem_of(404, str(error)))

    @app.exception_handler(Conflict)
    async def conflicting(request: Request, error: Conflict) -> Response:
        return answer(request, problem_of(409, str(error), state=error.status))

    @app.exception_handler(HTTPException)
    async def standard(request: Request, error: HTTPException) -> Response:
        return answer(request, problem_of(error.status_code, str(error.detail)), error.headers)

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(PoolTimeout)
    async def database_gone(request: Request, error: Exception) -> Response:
        logger.error("The database did not answer %s %s: %s", request.method, request.url.path, error)
        full = "disk is full" in str(error)
        detail = "The disk with the database is full." if full else "The database does not answer."
        advice = "Free some space and try again; nothing was changed." if full else "Try again when it is back; nothing was changed."
        return answer(request, problem_of(507 if full else 503, detail, advice=advice))

    @app.exception_handler(Exception)
    async def ours(request: Request, _error: Exception) -> Response:
        identity = getattr(request.state, "request_id", None) or uuid4().hex[:12]
        logger.error("Error %s in %s %s follows", identity, request.method, request.url.path)
        advice = f"The server's log has it as {identity}."
        return answer(request, problem_of(500, "Something went wrong on our side.", advice=advice, id=identity), {"X-Request-ID": identity})


def problem_of(status: int, detail: str, **more: Any) -> Problem:
    """A problem with the status's standard title."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)


def _dotted(place: tuple[Any, ...]) -> str:
    parts = [str(part) for part in place]
    return ".".join(parts[1:] if parts and parts[0] in ("body", "query", "path", "header") else parts)
