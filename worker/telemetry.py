"""What this worker runs on and what it offers. It asks the machine, not torch, which the worker itself never loads."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, replace

from app.lifecycle.queueing import CPU, GPU, Offer


def worker_name() -> str:
    """Unique among the workers of one database: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Device:
    """What a run with ``compute.device: auto`` gets here."""

    name: str
    offer: Offer


def find_device(labels: str = "") -> Device:
    """The visible GPUs, or the CPU. `labels`, separated by commas, replace what it would offer by itself."""
    found = _gpu() or _cpu()
    own = tuple(label.strip().lower() for label in labels.split(",") if label.strip())
    return Device(found.name, replace(found.offer, labels=own)) if own else found


def _gpu() -> Device | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or visible == "":
        return None
    chosen = ["--id", visible] if visible else []
    try:
        answer = subprocess.run(
            [program, *chosen, "--query-gpu=uuid,memory.total,name", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        rows = [line.split(",", 2) for line in answer.stdout.splitlines()]
        uuids = ",".join(sorted(uuid.strip() for uuid, _, _ in rows))
        gibibytes = min(int(mebibytes) for _, mebibytes, _ in rows) / 1024
        name = rows[0][2].strip()
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None
    return Device(f"{name}, {gibibytes:.0f} GiB", Offer((GPU, CPU), round(gibibytes, 1), uuids, len(rows)))


def _cpu() -> Device:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Device(f"CPU, {os.cpu_count()} cores, {memory:.0f} GiB", Offer((CPU,)))
