"""Settings of a worker. They stand beside the service's, so that one table tells them all."""

from app.settings import WorkerSettings

__all__ = ["WorkerSettings"]
