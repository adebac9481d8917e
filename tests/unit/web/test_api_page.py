from __future__ import annotations

from fastapi.testclient import TestClient


def test_the_page_has_every_operation_of_the_schema_and_needs_nothing_from_elsewhere(client: TestClient) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    text = client.get("/api/v1/docs").text
    for path, item in schema["paths"].items():
        assert f'<code class="api-path">{path}</code>' in text
        for operation in item.values():
            assert f'id="{operation["operationId"]}"' in text
            for parameter in operation.get("parameters", ()):
                assert f"<code>{parameter['name']}</code>" in text
    assert "https://cdn" not in text
    assert "OPCoD Studio" in text
