"""What this worker runs on, in words. It asks the machine, not torch, which the worker itself never loads."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess


def worker_name() -> str:
    """Unique among the workers of one database: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def device_name() -> str:
    """The device that a run with ``compute.device: auto`` gets: the first visible GPU with its memory, or the CPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or visible == "":
        return _cpu()
    first = ["--id", visible.split(",")[0]] if visible else []
    try:
        answer = subprocess.run(
            [program, *first, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        name, mebibytes = answer.stdout.splitlines()[0].rsplit(",", 1)
        return f"{name.strip()}, {int(mebibytes) / 1024:.0f} GiB"
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return _cpu()


def _cpu() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"CPU, {os.cpu_count()} cores, {memory:.0f} GiB"
