"""The states of a run, free of the database, so that clients may know them too."""

from __future__ import annotations

from typing import Literal

RunStatus = Literal["queued", "starting", "running", "pausing", "paused", "stopping", "stopped", "failed", "completed"]
