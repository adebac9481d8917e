"""What a refused or failed request raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from opcod.errors import UserError


class ServiceError(UserError):
    """The service refused a request, or does not answer.

    `status` is the answer's HTTP status, None where there was no answer; `problem` is the problem
    detail (RFC 9457) that came with it, with one entry a field under ``errors`` and, for a 409, the
    state that refused under ``state``.
    """

    kind = "service"

    def __init__(self, message: str, *, advice: str = "", status: int | None = None, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, advice=advice)
        self.status = status
        self.problem: Mapping[str, Any] = problem or {}


def no_answer(url: str, error: httpx.HTTPError) -> ServiceError:
    """The server was not reached, or broke off."""
    if isinstance(error, httpx.ConnectError):
        return ServiceError(
            f"No server answers at {url}.", advice="Start one with `opcod up`, or name its address with --url or OPCOD_URL."
        )
    return ServiceError(f"The server at {url} broke off: {error or type(error).__name__}.", advice="Try again.")


def not_ours(url: str) -> ServiceError:
    """Something else than a studio answers."""
    return ServiceError(f"What answers at {url} is not an OPCoD server.", advice="Name its address with --url or OPCOD_URL.")


def refusal(response: httpx.Response) -> ServiceError:
    """A problem detail (RFC 9457) as an error, one line a field. The response's body must have been read."""
    try:
        problem = response.json()
        message = str(problem.get("detail") or problem["title"])
        faults = [
            f"{fault.get('field') or fault.get('pointer', '')}: {fault['message']} {fault.get('advice') or ''}".strip()
            for fault in problem.get("errors") or ()
        ]
    except (ValueError, KeyError, AttributeError, TypeError):
        words = f"The server answered {response.status_code} {response.reason_phrase}."
        return ServiceError(words, advice="Its log says why.", status=response.status_code)
    advice = str(problem.get("advice") or "")
    return ServiceError("\n  ".join([message, *faults]), advice=advice, status=response.status_code, problem=problem)
