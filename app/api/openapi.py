"""The interface's description of itself: what FastAPI gathers, put in order.

Every operation says which errors it can answer with and no others, every body has an example, and
answers link to what can be done next.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.api.examples import example
from app.api.links import LINKS
from app.api.problems import MEDIA_TYPE

Json = dict[str, Any]

ABOUT = """Everything that the pages do, for programs.

Lists carry `next_cursor`: give it back as `cursor` to read on. Errors are problem details (RFC 9457) with one entry a field; a
409 says the state that refused. What is polled carries an `ETag`. Creations take an `Idempotency-Key`.
Where people sign in, send `Authorization: Bearer opcod_...`; tokens are made under Settings.
"""
TAGS = {
    "experiments": "What to run. Never changed once made.",
    "runs": "The running of an experiment: state, queue, report.",
    "sweeps": "The same experiment with settings that differ.",
    "records": "What a run left behind: metrics, scores, gate decisions, checkpoints, log, live events.",
    "exchanges": "What the students said to each other.",
    "library": "Students, domains and workers that the service knows.",
    "webhooks": "Calls to an address of yours when a run finishes, fails, or a gate changes.",
    "access": "People, tokens, and who did what.",
    "health": "Whether the service can do its work.",
}
ERRORS: dict[int, tuple[str, Json]] = {
    401: ("Nobody is known: sign in, or send a valid token.", {"detail": "Sign in, or send a valid token."}),
    403: ("Whoever asks may not do this.", {"detail": "Run 3 belongs to ann.", "advice": "Clone it to have one of your own."}),
    404: ("There is no such thing.", {"detail": "There is no run 3."}),
    409: ("The state of things refuses the request.", {"detail": "Run 3 is completed; it cannot be stopped.", "state": "completed"}),
    413: ("The body is too long.", {"detail": "The body is longer than 4 MB.", "advice": "Keep data in files."}),
    422: (
        "What was sent is not valid; `errors` has one entry a field.",
        {
            "detail": "What was sent is not valid.",
            "errors": [
                {"field": "students.0.model", "message": "There is no folder models/physicist.", "advice": "Name a folder or a hub id."}
            ],
        },
    ),
    429: ("Too often; `Retry-After` says when to try again.", {"detail": "Too many tries.", "advice": "Wait a minute."}),
    500: ("A fault of ours; the server's log has it by its id.", {"detail": "Something went wrong on our side.", "id": "3f2a91c04b7e"}),
    503: ("The database does not answer, or too many requests are under way.", {"detail": "The database does not answer."}),
    507: ("The server's disk is full; nothing was changed.", {"detail": "The disk with the database is full."}),
}
SUCCESSES = {"201": "It was made.", "204": "It was done; there is nothing to say."}
OPEN = ("/health", "/health/live", "/health/ready")
"""Paths that ask nobody who they are."""


def operation_id(route: APIRoute) -> str:
    """``runs_pause``: tag and function; what programs are generated from."""
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


def install(app: FastAPI, prefix: str) -> None:
    """Let `app` describe itself so."""

    def describe() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = schema(app, prefix)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def schema(app: FastAPI, prefix: str) -> Json:
    """The whole description."""
    found: Json = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=ABOUT,
        routes=app.routes,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    components: Json = found["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    for name, component in components.items():
        if name.startswith("Listing_"):
            component["description"] = "A page of a list; `next_cursor` leads to the next."
        if name.startswith("Body_"):
            component["description"] = "A form with files (`multipart/form-data`)."
    seen: set[str] = set()
    for path, item in found["paths"].items():
        for method, operation in item.items():
            seen.add(operation["operationId"])
            operation["summary"] = _first_sentence(operation.get("description", ""))
            short = path.removeprefix(prefix)
            _describe_errors(operation, method, short)
            _give_examples(operation, components)
            if short not in OPEN:
                operation["security"] = [{"token": []}, {"session": []}, {}]
    _link(found, seen)
    used = {tag for item in found["paths"].values() for operation in item.values() for tag in operation.get("tags", ())}
    found["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    found["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "An API token, made under Settings."},
        "session": {"type": "apiKey", "in": "cookie", "name": "opcod_session", "description": "A browser's session."},
    }
    return found


def _first_sentence(text: str) -> str:
    head, separator, _ = text.partition("\n")[0].partition(". ")
    return head if separator else head.rstrip(".")


def _possible(operation: Json, method: str, path: str) -> list[int]:
    """The errors that an operation can answer with."""
    public = path in OPEN
    takes = bool(operation.get("parameters")) or "requestBody" in operation
    writes = method != "get"
    return [
        *([] if public else [401, 403]),
        *([404] if "{" in path else []),
        *([409] if writes else []),
        *([413] if writes else []),
        *([422] if takes else []),
        *([] if path == "/health/live" else [503]),
        *([507] if writes else []),
    ]


def _describe_errors(operation: Json, method: str, path: str) -> None:
    responses = operation["responses"]
    for status, response in responses.items():
        if response["description"] == "Successful Response":
            response["description"] = SUCCESSES.get(status, "What was asked for.")
    possible = _possible(operation, method, path)
    for status in [text for text in responses if text.isdigit() and int(text) in ERRORS and int(text) not in possible]:
        declared = responses[status]
        if declared.get("description") == HTTPStatus(int(status)).phrase and MEDIA_TYPE in declared.get("content", {}):
            del responses[status]  # declared for all operations at once; this one has no way to it
    for number in possible:
        description, content = ERRORS[number]
        own = responses.get(str(number), {})
        if own and MEDIA_TYPE not in own.get("content", {}):
            continue  # an answer of its own, as /health/ready has
        body = {"type": "about:blank", "title": HTTPStatus(number).phrase, "status": number, **content}
        shape = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": body}
        responses[str(number)] = {"description": description, "content": {MEDIA_TYPE: shape}}
    operation["responses"] = dict(sorted(responses.items()))


def _give_examples(operation: Json, components: Json) -> None:
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for body in bodies:
        for kind, content in body.get("content", {}).items():
            if "schema" in content and "example" not in content and "examples" not in content and kind.endswith("json"):
                content["example"] = example(content["schema"], components)
    for parameter in operation.get("parameters", ()):
        parameter.setdefault("description", "")


def _link(found: Json, known: set[str]) -> None:
    for item in found["paths"].values():
        for operation in item.values():
            links = {
                target: {"operationId": target, "parameters": {parameter: value}}
                for target, parameter, value in LINKS.get(operation["operationId"], ())
                if target in known
            }
            for status in ("200", "201") if links else ():
                if status in operation["responses"]:
                    operation["responses"][status]["links"] = links
