"""The typed client of the REST interface: `Client` blocks, `AsyncClient` awaits, both give the shapes of `app.shapes`.

    from app.client import Client

    with Client("http://127.0.0.1:8000") as studio:
        run = studio.launch({"preset": "tiny"})
        run = studio.wait(run.id)
        print(run.verdict.mutual_improvement)

It stands on httpx and pydantic alone: neither the database nor the web framework is imported. The
token comes from `OPCOD_TOKEN`, the address from `OPCOD_URL`, unless they are given. A refused request
raises `ServiceError` with the server's own words.
"""

from app.client.asynchronous import AsyncClient
from app.client.errors import ServiceError
from app.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "ServiceError"]
