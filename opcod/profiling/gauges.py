"""Reading peak memory at the borders of parts, on the CPU and on CUDA devices."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

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


class Peaks:
    """The peak of a device's memory, for several who look at it: torch keeps a single one, which each look sets back.

    `take` reads torch's and sets it back.
    """

    def __init__(self, take: Callable[[], int]) -> None:
        self._take = take
        self._ever = 0
        self._since: WeakKeyDictionary[object, int] = WeakKeyDictionary()

    def since_last(self, who: object) -> int:
        """The most bytes held since `who` last asked; at first, since the process began."""
        seen = self.ever()
        found = self._since.setdefault(who, seen)
        self._since[who] = 0
        return found

    def ever(self) -> int:
        """The most bytes held since the process began."""
        now = self._take()
        self._ever = max(self._ever, now)
        for who, before in self._since.items():
            self._since[who] = max(before, now)
        return self._ever


@cache
def cuda_peaks(index: int) -> Peaks:
    """Of what torch has allocated on a CUDA device."""

    def take() -> int:
        found = torch.cuda.max_memory_allocated(index)
        torch.cuda.reset_peak_memory_stats(index)
        return found

    return Peaks(take)


class CudaMemory:
    """What torch has allocated on a CUDA device; waits for it at every border. `sharers` processes of the run have the device together."""

    def __init__(self, device: torch.device, sharers: int = 1) -> None:
        self.device = device
        self._sharers = sharers
        self._peaks = cuda_peaks(torch.cuda.current_device() if device.index is None else device.index)

    def settle(self) -> None:
        torch.cuda.synchronize(self.device)

    def take_peak(self) -> int:
        return self._peaks.since_last(self)

    def held(self) -> int:
        """Bytes allocated now."""
        return torch.cuda.memory_allocated(self.device)

    def free(self) -> int:
        """Bytes that this process could hold besides: what nobody has and what torch keeps for later, within its share."""
        nobodys, whole = torch.cuda.mem_get_info(self.device)
        held = self.held()
        found = nobodys + torch.cuda.memory_reserved(self.device) - held
        return found if self._sharers == 1 else max(0, min(found, whole // self._sharers - held))


def gauge_of(device: torch.device) -> Gauge:
    """The one that reads this device's memory."""
    return CudaMemory(device) if device.type == "cuda" else ResidentMemory()
