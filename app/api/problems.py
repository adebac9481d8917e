"""Errors as RFC 9457 problem details under /api, as a page elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.artefacts.store import StoreError
from app.errors import LONGEST_FIELD, LONGEST_MESSAGE, Conflict, Forbidden, Invalid, NoRoom, NotFound, Refused
from app.guards.headers import SECURITY
from app.secrets.redaction import redact
from opcod.errors import UserError
from opcod.plain_text import bounded, storable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
UNREADABLE = "There was an error parsing the body"


def _told(most: int) -> BeforeValidator:
    """Text that may quote what was sent, in bounds and in characters that can be sent back."""
    return BeforeValidator(lambda text: bounded(storable(text), most) if isinstance(text, str) else text)


class FieldProblem(BaseModel):
    """One field at fault."""

    field: Annotated[str, _told(LONGEST_FIELD)] = Field(description="Dotted path, as in `students.0.model`.")
    message: Annotated[str, _told(LONGEST_MESSAGE)] = Field(description="What is wrong with it.")
    advice: Annotated[str, _told(LONGEST_MESSAGE)] = Field("", description="What to do.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank", description="Always `about:blank`: the status says it all.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: Annotated[str, _told(LONGEST_MESSAGE)] = Field(description="What was wrong.")
    advice: Annotated[str | None, _told(LONGEST_MESSAGE)] = Field(None, description="What to do.")
    errors: list[FieldProblem] | None = Field(None, description="One entry for each field at fault.")
    state: str | None = Field(None, description="409: the run's status that refused the request.")
    id: str | None = Field(None, description="500: find it in the server's log.")


DATABASE_AWAY: tuple[type[Exception], ...] = (OperationalError, InterfaceError, PoolTimeout)

PageRenderer = Callable[[Request, Problem], Response]

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {}}}
    for status in (401, 403, 404, 409, 413, 422)
}


def install(app: FastAPI) -> None:
    """Answer every error with a problem: JSON under /api, and elsewhere by the state's `render_page` where there is one."""

    @app.exception_handler(Invalid)
    async def invalid(request: Request, error: Invalid) -> Response:
        errors = [FieldProblem(field=fault.field, message=redact(fault.message), advice=fault.advice) for fault in error.faults]
        return respond(request, problem_of(422, "What was sent is not valid.", errors=errors))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        errors = [FieldProblem(field=_dotted(item["loc"]), message=item["msg"].removeprefix("Value error, ")) for item in error.errors()]
        return respond(request, problem_of(422, "What was sent is not valid.", errors=errors))

    @app.exception_handler(UserError)
    async def refused(request: Request, error: UserError) -> Response:
        errors = [FieldProblem(field=error.field or "", message=redact(error.message), advice=error.advice)]
        return respond(request, problem_of(422, error.message, advice=error.advice, errors=errors))

    @app.exception_handler(StoreError)
    async def store_gone(request: Request, error: StoreError) -> Response:
        logger.error("The artefact store did not answer %s %s: %s", request.method, request.url.path, error)
        return respond(request, problem_of(503, error.message, advice=error.advice))

    @app.exception_handler(NotFound)
    async def missing(request: Request, error: NotFound) -> Response:
        return respond(request, problem_of(404, str(error)))

    @app.exception_handler(Conflict)
    async def conflicting(request: Request, error: Conflict) -> Response:
        return respond(request, problem_of(409, str(error), state=error.status))

    @app.exception_handler(Refused)
    async def not_now(request: Request, error: Refused) -> Response:
        return respond(request, problem_of(409, str(error), advice=error.advice or None))

    @app.exception_handler(NoRoom)
    async def full(request: Request, error: NoRoom) -> Response:
        logger.error("%s (%s %s)", error, request.method, request.url.path)
        return respond(request, problem_of(507, str(error), advice=error.advice or None))

    @app.exception_handler(Forbidden)
    async def forbidden(request: Request, error: Forbidden) -> Response:
        return respond(request, problem_of(403, str(error), advice=error.advice or None))

    @app.exception_handler(HTTPException)
    async def standard(request: Request, error: HTTPException) -> Response:
        files = request.headers.get("content-type", "").startswith("multipart/")
        if error.status_code == 400 and (files or error.detail == UNREADABLE):  # FastAPI's word for a body that is not even text
            advice = "Send files as multipart/form-data, as `curl -F` does." if files else "Send JSON in UTF-8."
            fault = FieldProblem(field="", message="The body cannot be read.", advice=advice)
            return respond(request, problem_of(422, "What was sent is not valid.", errors=[fault]))
        return respond(request, problem_of(error.status_code, str(error.detail)), error.headers)

    for error in DATABASE_AWAY:
        app.add_exception_handler(error, _database_gone)

    @app.exception_handler(Exception)
    async def ours(request: Request, _error: Exception) -> Response:
        identity = getattr(request.state, "request_id", None) or uuid4().hex[:12]
        logger.error("Error %s in %s %s follows", identity, request.method, request.url.path)
        advice = f"The server's log has it as {identity}."
        return respond(
            request, problem_of(500, "Something went wrong on our side.", advice=advice, id=identity), SECURITY | {"X-Request-ID": identity}
        )


def problem_of(status: int, detail: str, **more: Any) -> Problem:
    """A problem with the status's standard title. Secrets that got into its words are struck out."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=redact(detail), **more)


def as_json(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem for programs."""
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, media_type=MEDIA_TYPE)


def respond(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as JSON under /api, and as a page elsewhere where there are pages."""
    render_page: PageRenderer | None = getattr(request.app.state, "render_page", None)
    if render_page is None or request.url.path.startswith("/api/"):
        return as_json(problem, headers)
    response = render_page(request, problem)
    response.headers.update(headers or {})
    return response


def database_gone(request: Request, error: Exception) -> Response:
    """The answer while the database is away."""
    logger.error("The database did not answer %s %s: %s", request.method, request.url.path, error)
    full = "disk is full" in str(error)
    detail = "The disk with the database is full." if full else "The database does not answer."
    advice = "Free some space and try again; nothing was changed." if full else "Try again when it is back; nothing was changed."
    return respond(request, problem_of(507 if full else 503, detail, advice=advice))


async def _database_gone(request: Request, error: Exception) -> Response:
    return database_gone(request, error)


def _dotted(place: tuple[Any, ...]) -> str:
    parts = [str(part) for part in place]
    return ".".join(parts[1:] if parts and parts[0] in ("body", "query", "path", "header") else parts)
