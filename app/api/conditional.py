"""ETags for what is polled: an answer that has not changed since is 304 and empty.

The tag is a digest of the answer's bytes, so that it is strong, and true whatever the answer was made
of. Give `**POLLED` to a GET of a router whose `route_class` is `ConditionalRoute`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute

_ANSWER = {"ETag": {"description": "Send it as `If-None-Match` to be told 304 while nothing changes.", "schema": {"type": "string"}}}


def _declared(
    if_none_match: Annotated[str | None, Header(description="The `ETag` of the answer that you have.", max_length=2_000)] = None,
) -> None:
    """Say in the schema that the header is read; `ConditionalRoute` reads it."""


POLLED: dict[str, Any] = {
    "dependencies": [Depends(_declared)],
    "responses": {200: {"headers": _ANSWER}, 304: {"description": "Not Modified: what you have is still so.", "headers": _ANSWER}},
}


class ConditionalRoute(APIRoute):
    """A route that answers 304 where it says it may."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual handler, its answer compared with what the asker has."""
        handler = super().get_route_handler()
        if 304 not in self.responses:
            return handler

        async def conditional(request: Request) -> Response:
            response = await handler(request)
            if response.status_code != 200:
                return response
            tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
            if _matches(request.headers.get("if-none-match", ""), tag):
                return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
            response.headers["ETag"] = tag
            response.headers["Cache-Control"] = "no-cache"  # ask each time: what is polled may have changed
            return response

        return conditional


def _matches(asked: str, tag: str) -> bool:
    """Weak comparison, as RFC 9110 has it for If-None-Match."""
    return asked.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in asked.split(",")]
