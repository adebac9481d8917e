"""Reading peak memory at the borders of parts, on the CPU and on CUDA devices."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from opcod.stopwatch import Gauge

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Sets the kernel's record of the largest resident size back to the present one (proc(5))."""


class ResidentMemory:
    """The process's largest resident size. Where the system cannot set its record back, it is the largest so far."""

    def settle(self) -> None:
        """The CPU is done when the call returns."""

    def take_peak(self) -> int | None:
        try:
            lines = STATUS.read_text(encoding="ascii").splitlines()
            found = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
            CLEAR.write_text(RESET_PEAK, encoding="ascii")
        except (OSError, StopIteration):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else peak * 1024
        return found


class CudaMemory:
    """What torch had allocated on a CUDA device; waits for it at every border."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def settle(self) -> None:
        torch.cuda.synchronize(self.device)

    def take_peak(self) -> int | None:
        found = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return found


def gauge_of(device: torch.device) -> Gauge:
    """The one that reads this device's memory."""
    return CudaMemory(device) if device.type == "cuda" else ResidentMemory()
