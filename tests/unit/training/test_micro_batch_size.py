"""Micro-batches grow into the memory that is measured to be free, and no further; memory that runs out lowers them for good."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, log2
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import LossConfig, OptimizerConfig, load_preset, merge, parse_config
from opcod.errors import ResourceError
from opcod.estimation.memory import USABLE
from opcod.profiling.gauges import CudaMemory, Peaks, cuda_peaks
from opcod.profiling.held import Held
from opcod.students.ema import ExponentialAverage
from opcod.students.loading import without_dropout
from opcod.tasks.questions import load_domains
from opcod.training.micro_batch_size import GROWTH, MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.student_host import HostSettings, StudentHost
from opcod.training.update import Learner, ScoredResponse, distill
from tests.unit.students.tiny_models import make_model

FIRST = 64


@dataclass
class Device:
    """Its memory: what stands, and what an update holds besides, `fixed` and so much a token of its largest micro-batch."""

    capacity: int
    stood: int
    fixed: int
    rate: int
    peak: int = 0
    refused: list[int] = field(default_factory=list)
    """Tokens of micro-batches that memory ran out in."""

    def held(self) -> int:
        return self.stood

    def free(self) -> int:
        return self.capacity - self.stood

    def take_peak(self) -> int:
        found, self.peak = self.peak, self.stood
        return found

    @property
    def fitting(self) -> int:
        """Tokens that fit into what is usable."""
        return int((USABLE * self.capacity - self.stood - self.fixed) / self.rate)

    def update(self, size: MicroBatchSize, batch: int = 10**15, *, noise: float = 0.0) -> int:
        """Make one, in as many attempts as it takes; returns the tokens of its largest micro-batch, which is as large as it may be."""
        while True:
            tokens = min(batch, size.begin())
            self.peak = self.stood + int((self.fixed + self.rate * tokens) * (1 + noise))
            if self.peak <= self.capacity:
                size.made([tokens])
                return tokens
            self.refused.append(tokens)
            size.ran_out([tokens] if tokens > 1 else [])


devices = st.builds(
    lambda stood, fixed, rate, fits: Device(ceil((stood + fixed + rate * fits) / USABLE) + 1, stood, fixed, rate),
    stood=st.integers(0, 10**11),
    fixed=st.integers(0, 10**10),
    rate=st.integers(1, 10**7),
    fits=st.integers(FIRST, 10**6),
)
"""On which the first update fits."""


@given(devices, st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_memory_affine_in_tokens_is_never_more_than_is_usable(device: Device, batches: list[int]) -> None:
    size = MicroBatchSize(FIRST, device)
    largest = 0
    for batch in batches:
        tokens = device.update(size, batch)
        assert device.stood + device.fixed + device.rate * tokens <= USABLE * device.capacity + 1
        assert tokens <= max(FIRST, GROWTH * largest)
        largest = max(largest, tokens)


@given(devices, st.integers(0, 10**11))
def test_what_comes_to_stand_beside_it_is_left_its_room(device: Device, more: int) -> None:
    size = MicroBatchSize(FIRST, device)
    for _ in range(8):
        largest = device.update(size)
    if largest < 1.2 * FIRST:
        return  # too near to each other to tell the fixed part from a token's
    device.stood += min(more, int(USABLE * device.capacity) - device.stood - device.fixed - 2 * device.rate)
    assert device.update(size) <= max(1, device.fitting)


def test_a_smaller_update_that_held_more_than_the_largest_lowers_the_limit() -> None:
    device = Device(capacity=10**9, stood=0, fixed=0, rate=1000)
    size = MicroBatchSize(FIRST, device)
    for _ in range(16):
        largest = device.update(size)
    assert largest >= 899_000
    device.update(size, 300_000, noise=2.2)
    assert size.begin() < 320_000


@given(devices.filter(lambda one: one.fixed <= one.rate * one.fitting))
def test_half_of_what_fits_is_reached_within_a_few_updates(device: Device) -> None:
    size = MicroBatchSize(FIRST, device)
    for _ in range(ceil(log2(max(1, device.fitting / FIRST))) + 3):
        reached = device.update(size)
    assert reached >= device.fitting // 2


@given(devices, st.lists(st.floats(0, 3), min_size=30, max_size=30))
def test_memory_that_runs_out_is_met_a_few_times_in_a_run_and_not_at_every_step(device: Device, noise: list[float]) -> None:
    """Whatever an update takes: each time halves the limit for the rest of the run."""
    size = MicroBatchSize(FIRST, device)
    tokens = FIRST
    try:
        for extra in noise:
            tokens = max(tokens, device.update(size, noise=extra))
    except ResourceError:
        pass  # not even one token fits
    assert len(device.refused) <= 1 + log2(GROWTH * tokens)
    assert all(later <= earlier / 2 for earlier, later in pairwise(device.refused))


@given(devices, st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1)), min_size=1, max_size=12), st.data())
def test_what_was_learned_goes_on_where_it_was_kept(device: Device, updates: list[tuple[int, float]], data: st.DataObject) -> None:
    device.capacity *= 3  # one token fits, however much an update takes
    size = MicroBatchSize(FIRST, device)
    cut = data.draw(st.integers(0, len(updates)))
    kept = size.state()
    through = []
    for place, (batch, noise) in enumerate(updates):
        if place == cut:
            kept = size.state()
        through.append(device.update(size, batch, noise=noise))
    if cut == len(updates):
        kept = size.state()
    anew = MicroBatchSize(FIRST, device)
    anew.load_state(kept)
    assert [device.update(anew, batch, noise=noise) for batch, noise in updates[cut:]] == through[cut:]
    assert anew.state() == size.state()


def test_a_number_stands_and_leaves_nothing_to_keep_until_memory_runs_out() -> None:
    size = MicroBatchSize(1000)
    assert size.begin() == 1000
    size.made(iter([700]))
    assert size.begin() == 1000
    assert not any(size.state())
    size.ran_out([700, 600])
    assert size.begin() == 350
    anew = MicroBatchSize(1000)
    anew.load_state(size.state())
    assert anew.begin() == 350


@dataclass
class Counted:
    """What tensors hold, counted as they are made and let go, on a device of so many bytes."""

    capacity: int
    tensors: Held = field(default_factory=Held)

    def held(self) -> int:
        return self.tensors.now

    def free(self) -> int:
        return self.capacity - self.tensors.now

    def take_peak(self) -> int:
        return self.tensors.take_peak()


def batch(rows: random.Random) -> list[ScoredResponse]:
    """Four responses to each of eight questions."""
    found = []
    for _ in range(8):
        prompt = rows.choices(range(250), k=rows.randrange(10, 30))
        for _ in range(4):
            response = rows.choices(range(250), k=rows.randrange(5, 40))
            told = prompt + rows.choices(range(250), k=rows.randrange(5, 30))
            found.append(ScoredResponse(prompt, response, [-5.6] * len(response), told))
    return found


@pytest.mark.parametrize("mib", [10, 14])
def test_real_updates_use_the_memory_that_there_is_and_learn_the_same(mib: int) -> None:
    """Every tensor of a tiny student's updates counted, against a student with micro-batches of one response."""
    counted = Counted(mib * 2**20)
    used = []

    def learner(size: MicroBatchSize) -> Learner:
        model = without_dropout(make_model("llama"))
        return Learner(model, ExponentialAverage(model, 0.05), Optimizer(model, OptimizerConfig(warmup_steps=0)), 256, size)

    plain = learner(MicroBatchSize(1))
    expected = [distill(plain, batch(random.Random(step)), LossConfig(top_k=20), temperature=1.0) for step in range(8)]
    with counted.tensors:
        grown = learner(MicroBatchSize(FIRST, counted))
        found = []
        for step in range(8):
            counted.take_peak()
            found.append(distill(grown, batch(random.Random(step)), LossConfig(top_k=20), temperature=1.0))
            used.append(max(counted.take_peak(), grown.micro_batches.state()[-1]))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert mine.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3)
    cuts = [one.micro_batch_tokens for one in found]
    assert cuts[0] == FIRST
    assert max(used) <= counted.capacity
    assert max(used[-3:]) >= USABLE / 2 * counted.capacity
    assert cuts[-1] > 4 * FIRST


class Foretold(Device):
    """What an update holds follows from the limit."""

    def of(self, size: MicroBatchSize) -> MicroBatchSize:
        self.size = size
        return size

    def take_peak(self) -> int:
        return self.stood + self.fixed + self.rate * self.size._tokens


def host(folder: Path, *, measured: bool = True) -> StudentHost:
    config = parse_config(merge(load_preset("tiny"), {"method": {"algorithm": "sdpo"}, "recording": {"token_questions": 0}}))
    made = StudentHost(HostSettings(config, "student1", folder, tuple(load_domains(config.domains)), 1))
    if measured:
        device = Foretold(capacity=2_000_000, stood=1_000, fixed=10_000, rate=1_000)
        made.micro_batches = device.of(MicroBatchSize(FIRST, device))
    return made


def limits(one: StudentHost, *steps: int) -> list[float]:
    return [one.step(1, step, False).metrics["student1/train/micro_batch_tokens"] for step in steps]


def test_a_resumed_student_cuts_its_batches_as_the_undisturbed_one(tmp_path: Path) -> None:
    """How a batch is cut decides how its gradient is rounded."""
    through, anew, forgetful = host(tmp_path), host(tmp_path), host(tmp_path)
    before = limits(through, 1, 2)
    state = through.save()
    assert state is not None
    assert state.files.keys() == {"weights.safetensors", "optimizer.safetensors", "teacher.safetensors", "micro_batches.safetensors"}
    anew.load(state)
    after = limits(through, 3, 4)
    assert before[0] == FIRST < after[0] < after[1]
    assert limits(anew, 3, 4) == after
    forgetful.load(state.model_copy(update={"files": {name: size for name, size in state.files.items() if "micro" not in name}}))
    assert limits(forgetful, 3, 4) != after
    weights = [torch.cat([weight.flatten() for weight in one.student.model.parameters()]) for one in (through, anew, forgetful)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_on_a_cpu_auto_is_a_number_and_a_state_is_as_it_was(tmp_path: Path) -> None:
    one = host(tmp_path, measured=False)
    assert one.config.compute.micro_batch_tokens == "auto"
    assert limits(one, 1) == [16_384]
    state = one.save()
    assert state is not None
    assert state.files.keys() == {"weights.safetensors", "optimizer.safetensors", "teacher.safetensors"}


class Watcher:
    """Who looks at a peak."""


def test_whoever_looks_at_a_peak_leaves_it_to_the_others() -> None:
    peak = 0

    def take() -> int:
        nonlocal peak
        found, peak = peak, 0
        return found

    peaks, one, other = Peaks(take), Watcher(), Watcher()
    peak = 7
    assert peaks.since_last(one) == 7
    assert peaks.since_last(other) == 7  # since the process began
    peak = 5
    assert peaks.since_last(one) == 5
    assert peaks.since_last(one) == 0
    peak = 3
    assert peaks.ever() == 7
    assert peaks.since_last(other) == 5
    assert peaks.since_last(one) == 3


def test_free_on_a_gpu_is_what_nobody_has_and_what_torch_keeps_within_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"mem_get_info": (30, 100), "memory_allocated": 20, "memory_reserved": 35, "current_device": 0}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, figure=figure: figure)
    cuda_peaks.cache_clear()
    assert CudaMemory(torch.device("cuda")).free() == 30 + 15
    assert CudaMemory(torch.device("cuda:0"), sharers=2).free() == 50 - 20
    assert CudaMemory(torch.device("cuda:0"), sharers=8).free() == 0
