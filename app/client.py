"""A small client of the REST interface: what the command line and `opcod up` call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx

from opcod.errors import UserError

API = "/api/v1"
_PAGE = 200


class ServiceError(UserError):
    """The service refused a request, or does not answer."""

    kind = "service"


class Client:
    """Talks to one server. Every method raises `ServiceError` with the server's own words."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url + API, timeout=timeout, headers={"Accept": "application/json"})

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server answers."""
        try:
            return self._http.get("/health", timeout=2.0).is_success
        except httpx.HTTPError:
            return False

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Plain data of the answer."""
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.ConnectError:
            raise ServiceError(
                f"No server answers at {self.url}.", advice="Start one with `opcod up`, or name its address with --url."
            ) from None
        except httpx.HTTPError as error:
            raise ServiceError(f"The server at {self.url} broke off: {error or type(error).__name__}.", advice="Try again.") from None
        if response.is_error:
            raise _refusal(response)
        try:
            return response.json()
        except ValueError:
            raise ServiceError(f"What answers at {self.url} is not an OPCoD server.", advice="Name its address with --url.") from None

    def pages(self, path: str, parameters: Mapping[str, Any], *, limit: int) -> Iterator[dict[str, Any]]:
        """At most `limit` items of a list, page by page."""
        wanted = {name: value for name, value in parameters.items() if value is not None}
        while limit > 0:
            page = self.request("GET", path, params={**wanted, "limit": min(limit, _PAGE)})
            yield from page["items"][:limit]
            limit -= len(page["items"])
            wanted["cursor"] = page["next_cursor"]
            if not page["items"] or page["next_cursor"] is None:
                return

    def launch(self, experiment: Mapping[str, Any]) -> dict[str, Any]:
        """Create an experiment and start a run of it; returns the run."""
        created = self.request("POST", "/experiments", json=dict(experiment))
        run: dict[str, Any] = self.request("POST", f"/experiments/{created['id']}/runs")
        return run


def _refusal(response: httpx.Response) -> ServiceError:
    """A problem detail (RFC 9457) as an error, one line a field."""
    try:
        problem = response.json()
        message = str(problem.get("detail") or problem["title"])
        faults = [
            f"{fault.get('field') or fault.get('pointer', '')}: {fault['message']} {fault.get('advice') or ''}".strip()
            for fault in problem.get("errors", [])
        ]
    except (ValueError, KeyError, AttributeError, TypeError):
        return ServiceError(f"The server answered {response.status_code} {response.reason_phrase}.", advice="Its log says why.")
    return ServiceError("\n  ".join([message, *faults]), advice=str(problem.get("advice") or ""))
