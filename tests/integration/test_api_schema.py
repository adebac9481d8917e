"""The interface's description of itself: complete, and true to its own examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from app.api.links import LINKS
from app.main import create_app
from app.settings import Settings

Json = dict[str, Any]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Json:
    return create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi()


def operations(schema: Json) -> Iterator[tuple[str, Json]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def bodies(schema: Json) -> Iterator[tuple[str, str, Json]]:
    for name, operation in operations(schema):
        for where, body in [("request", operation.get("requestBody", {})), *operation["responses"].items()]:
            for kind, content in body.get("content", {}).items():
                yield f"{name} {where}", kind, content


def test_every_operation_parameter_and_field_is_described(schema: Json) -> None:
    missing = []
    for name, operation in operations(schema):
        missing += [name] if not (operation.get("summary") and operation.get("description")) else []
        missing += [f"{name} ?{parameter['name']}" for parameter in operation.get("parameters", ()) if not parameter.get("description")]
        missing += [f"{name} {status}" for status, response in operation["responses"].items() if not response.get("description")]
    for name, component in schema["components"]["schemas"].items():
        missing += [name] if not component.get("description") else []
        missing += [f"{name}.{key}" for key, below in component.get("properties", {}).items() if not below.get("description")]
    assert missing == []


def test_every_error_is_documented_as_a_problem_with_an_example(schema: Json) -> None:
    for name, operation in operations(schema):
        responses = operation["responses"]
        reads = name.startswith("GET")
        if "/health" not in name:
            assert {"401", "403", "503"} <= set(responses), name
        assert ("404" in responses) == ("{" in name), name
        assert reads or {"409", "413", "507"} <= set(responses), name
        assert not (operation.get("parameters") or "requestBody" in operation) or "422" in responses, name
        for status, response in responses.items():
            if status[0] in "45" and "/health" not in name:
                assert list(response["content"]) == ["application/problem+json"], f"{name} {status}"
                assert response["content"]["application/problem+json"]["example"]["status"] == int(status)


def test_every_body_has_an_example_that_fits(schema: Json) -> None:
    registry: Registry[Any] = Registry().with_resource("urn:api", DRAFT202012.create_resource(schema))
    faults = []
    for name, kind, content in bodies(schema):
        if not kind.endswith("json"):
            continue
        if "example" not in content and not content.get("examples"):
            faults.append(f"{name}: no example")
            continue
        shape = _absolute(content["schema"])
        found = Draft202012Validator(shape, registry=registry).iter_errors(content["example"])
        faults += [f"{name}: {error.json_path} {error.message[:150]}" for error in found]
    for name, component in schema["components"]["schemas"].items():
        for example in component.get("examples", ()):
            validator = Draft202012Validator(_absolute(component), registry=registry)
            faults += [f"{name}: {error.json_path} {error.message[:150]}" for error in validator.iter_errors(example)]
    assert faults == []


def _absolute(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: f"urn:api{below}" if key == "$ref" else _absolute(below) for key, below in shape.items()}
    return [_absolute(item) for item in shape] if isinstance(shape, list) else shape


def test_names_of_operations_are_short_and_distinct_and_links_lead_somewhere(schema: Json) -> None:
    names = [operation["operationId"] for _, operation in operations(schema)]
    assert len(names) == len(set(names))
    assert {"runs_pause", "experiments_start", "records_metrics", "records_export_metrics", "exchanges_export"} <= set(names)
    assert set(LINKS) - set(names) <= {"webhooks_create"}
    linked = {
        link["operationId"]
        for _, operation in operations(schema)
        for body in operation["responses"].values()
        for link in body.get("links", {}).values()
    }
    assert linked <= set(names)
    assert {"experiments_start", "runs_stop", "runs_resume", "sweeps_stop"} <= linked


def test_the_schema_is_openapi_3_1(schema: Json) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    assert schema["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(schema).iter_errors()) == []
