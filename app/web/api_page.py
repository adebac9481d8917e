"""The interface's description as a page, made from the schema that programs read. It needs no network and runs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from markupsafe import Markup

from app.templating import render, render_text

router = APIRouter()

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ApiField:
    """A parameter or a field of a body."""

    name: str
    type: str
    required: bool
    about: str
    place: str = ""
    """Of a parameter: path, query or header."""


@dataclass(frozen=True, slots=True)
class ApiBody:
    """What is sent or answered. Fields are empty where it is no object of its own."""

    kind: str
    shape: str
    fields: tuple[ApiField, ...]
    example: str


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """One status that an operation answers with."""

    status: str
    about: str
    bodies: tuple[ApiBody, ...]


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """One method of one path."""

    name: str
    method: str
    path: str
    summary: str
    about: tuple[str, ...]
    parameters: tuple[ApiField, ...]
    bodies: tuple[ApiBody, ...]
    answers: tuple[ApiAnswer, ...]
    errors: tuple[ApiAnswer, ...]


@dataclass(frozen=True, slots=True)
class ApiGroup:
    """Operations about one thing."""

    name: str
    about: str
    operations: tuple[ApiOperation, ...]


@dataclass(frozen=True, slots=True)
class ApiPage:
    """The whole interface."""

    about: tuple[str, ...]
    groups: tuple[tuple[ApiGroup, Markup], ...]
    """Each with its part of the page."""
    count: int


_MADE: WeakKeyDictionary[FastAPI, ApiPage] = WeakKeyDictionary()
"""It is the same for everybody as long as the application runs, and long."""


@router.get("/api/v1/docs")
def docs(request: Request) -> Response:
    """The interface, described."""
    app: FastAPI = request.app
    if app not in _MADE:
        _MADE[app] = api_page(app.openapi())
    return render(request, "pages/api.html", api=_MADE[app])


def api_page(schema: Schema) -> ApiPage:
    """The page of a description."""
    shapes: Schema = schema["components"]["schemas"]
    groups: dict[str, list[ApiOperation]] = {tag["name"]: [] for tag in schema["tags"]}
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            groups[operation["tags"][0]].append(_operation(method, path, operation, shapes))
    about = {tag["name"]: tag["description"] for tag in schema["tags"]}
    made = [ApiGroup(name, about[name], tuple(found)) for name, found in groups.items()]
    parts = tuple((group, Markup(render_text("partials/api_group.html", group=group))) for group in made)
    return ApiPage(_paragraphs(schema["info"]["description"]), parts, sum(len(group.operations) for group in made))


def _operation(method: str, path: str, operation: Schema, shapes: Schema) -> ApiOperation:
    answers = [_answer(status, response, shapes) for status, response in sorted(operation["responses"].items(), reverse=True)]
    told: set[str] = set()
    for place, answer in enumerate(answers):  # what was made before is answered with as what is made: spelled out once
        if answer.status < "400":
            bodies = tuple(replace(body, fields=(), example="") if body.shape in told else body for body in answer.bodies)
            told |= {body.shape for body in bodies}
            answers[place] = replace(answer, bodies=bodies)
    return ApiOperation(
        name=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        about=_paragraphs(operation["description"]),
        parameters=tuple(
            ApiField(one["name"], _type(one["schema"]), one.get("required", False), one["description"], one["in"])
            for one in operation.get("parameters", ())
        ),
        bodies=_bodies(operation.get("requestBody", {}), shapes),
        answers=tuple(answer for answer in answers if answer.status < "400"),
        errors=tuple(answer for answer in reversed(answers) if answer.status >= "400"),
    )


def _answer(status: str, response: Schema, shapes: Schema) -> ApiAnswer:
    return ApiAnswer(status, response["description"], _bodies(response, shapes))


def _bodies(holder: Schema, shapes: Schema) -> tuple[ApiBody, ...]:
    made = []
    for kind, content in holder.get("content", {}).items():
        shape = content.get("schema", {})
        example = content.get("example")
        text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
        made.append(ApiBody(kind, _type(shape).removesuffix(" or null"), _fields(shape, shapes), text if example is not None else ""))
    return tuple(made)


def _fields(shape: Schema, shapes: Schema) -> tuple[ApiField, ...]:
    """The fields of an object, or of the items of a list."""
    options = [option for option in shape.get("anyOf", [shape]) if option.get("type") != "null"]
    name = options[0].get("$ref", "").rpartition("/")[2] if options else ""
    target: Schema = shapes.get(name, {})
    if name.startswith("Listing_"):
        return _fields(target["properties"]["items"]["items"], shapes)
    required = target.get("required", ())
    return tuple(
        ApiField(key, _type(below), key in required, below.get("description", "")) for key, below in target.get("properties", {}).items()
    )


def _type(shape: Schema) -> str:
    """A schema in a word or two."""
    if "$ref" in shape:
        return _named(shape["$ref"].rpartition("/")[2])
    if "anyOf" in shape or "oneOf" in shape:
        return " or ".join(dict.fromkeys(_type(option) for option in shape.get("anyOf", shape.get("oneOf", ()))))
    if "enum" in shape:
        return " | ".join(str(value) for value in shape["enum"])
    if "const" in shape:
        return str(shape["const"])
    kind = shape.get("type", "anything")
    if kind == "array":
        return f"list of {_type(shape.get('items', {}))}"
    if kind == "object" and isinstance(shape.get("additionalProperties"), Mapping):
        return f"object of {_type(shape['additionalProperties'])}"
    return {"date-time": "time", "binary": "file"}.get(shape.get("format", ""), str(kind))


def _named(component: str) -> str:
    if component.startswith("Listing_"):
        return f"list of {_named(component.removeprefix('Listing_').rstrip('_'))}"
    return component.removesuffix("Shape")


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.strip().split("\n\n") if part.strip())
