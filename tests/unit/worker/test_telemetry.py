"""What a worker offers, as far as the machine's own programs tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.lifecycle.queueing import Offer
from worker.telemetry import find_device


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A driver's program that answers as NVIDIA's does."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU-11, 81920, NVIDIA A100-SXM4-80GB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def test_a_gpu_is_offered_with_its_memory_and_a_key_that_is_its_own(smi: Path) -> None:
    device = find_device()
    assert device.offer == Offer(("gpu", "cpu"), 80.0, "GPU-11", 1)
    assert device.name == "NVIDIA A100-SXM4-80GB, 80 GiB"
    assert find_device("GPU ").offer == Offer(("gpu",), 80.0, "GPU-11", 1)


def test_several_gpus_are_offered_together_with_the_memory_of_the_smallest(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi.write_text("""#!/bin/sh
case "$*" in *"--id 3,1 "*) ;; *) exit 9 ;; esac
echo 'GPU-33, 81920, NVIDIA A100-SXM4-80GB'
echo 'GPU-11, 40960, NVIDIA A100-SXM4-40GB'
""")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert find_device().offer == Offer(("gpu", "cpu"), 40.0, "GPU-11,GPU-33", 2)


def test_without_a_gpu_that_works_the_cpu_is_offered(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_device().offer == Offer(("cpu",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert find_device().offer == Offer(("cpu",))
