"""A pre-flight (see `opcod.preflight`): the job's request holds settings and size, its result is what was found."""

from __future__ import annotations

from typing import Any

from app.guards import roots
from opcod.config import parse_config
from opcod.preflight.findings import PreflightSize
from opcod.preflight.look import preflight
from worker.job import Job


def carry_out(job: Job) -> dict[str, Any]:
    """What was found, as plain data; while it is under way, what that is (``{"doing": ...}``).

    Raises:
        UserError: settings, data, students or resources are at fault.
    """
    config = parse_config(job.request["config"])
    with roots.confined(roots.folders_of(job.settings)):
        roots.stay_within(config)
        size = PreflightSize.model_validate(job.request["size"])
        found = preflight(config, size, tell=lambda fraction, doing: job.tell(fraction, {"doing": doing}))
    return found.model_dump(mode="json")
