"""Settings of a worker: the service's, and what only a worker needs (environment, prefix ``OPCOD_``)."""

from __future__ import annotations

from pydantic import Field

from app.settings import Settings


class WorkerSettings(Settings):
    """How this worker runs its training processes."""

    worker_labels: str = Field(
        "", description="What this worker serves, such as `gpu`; empty: `gpu,cpu` where there is a GPU, otherwise `cpu`."
    )
    drain_seconds: float = Field(60.0, description="How long a worker that is stopped waits for its run's next checkpoint.", ge=0)
    patience_seconds: float = Field(60.0, description="How long a database that does not answer is waited for.", gt=0)
    store_patience_seconds: float = Field(
        3600.0, description="How long a store that does not answer is waited for before the run fails; it trains on meanwhile.", gt=0
    )
    ship_seconds: float = Field(2.0, description="How often the run's log and new checkpoints are shipped to the store.", gt=0)
    log_mib: float = Field(64.0, description="MiB that a run's log may take; beyond, parts of its middle are cut, and it says so.", gt=0)
