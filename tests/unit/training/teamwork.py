"""Two processes that work as a team, and what tests have them do."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn

from opcod.config import AdaptersConfig, GrpoConfig, LossConfig, OptimizerConfig
from opcod.distillation import readout
from opcod.distillation.readout import response_readout
from opcod.generation.base import SamplingParams
from opcod.generation.transformers import TransformersEngine
from opcod.students.ema import ExponentialAverage
from opcod.students.loading import Student, equip, without_dropout
from opcod.students.lora import load_trainable_state, trainable_state
from opcod.training import update
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.team import ALONE, Place, ProcessTeam, Team, TeamEngine
from opcod.training.update import Learner, ScoredResponse, UpdateReport, distill, reinforce, sampled_log_probs
from tests.unit.students.tiny_models import make_model, make_tokenizer

END = 256
BATCH = [
    ScoredResponse([5, 6, 7], [40, 41, 42, END], [-5.6] * 4, [5, 6, 7, 8, 9, 10, 11, 12], 1.0, 3),
    ScoredResponse([1], [END], [-9.0], [90, 91], -1.0),
    ScoredResponse([2, 3, 4, 5, 6, 7, 8, 9], [60, 61], [-5.0, -6.0], [33], 0.5, 3),
]

P = ParamSpec("P")
R = TypeVar("R")


class Pair:
    """Two processes of a team; what they are asked, both do."""

    def __init__(self, meeting: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pools = [ProcessPoolExecutor(1, context) for _ in range(2)]
        joining = [pool.submit(_join, rank, meeting) for rank, pool in enumerate(self.pools)]
        self.processes = {future.result() for future in joining}

    def ask(self, work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> list[R]:
        futures = [pool.submit(work, *arguments, **options) for pool in self.pools]
        return [future.result(timeout=60) for future in futures]

    def end(self) -> None:
        for process in multiprocessing.active_children():  # after a failure they may wait for each other
            if process.pid in self.processes:
                process.kill()
        for pool in self.pools:
            pool.shutdown()


_team: Team = ALONE


def _join(rank: int, meeting: Path) -> int:
    global _team
    torch.set_num_threads(1)
    _team = ProcessTeam(Place(rank, 2, meeting, torch.device("cpu")))
    return os.getpid()


@dataclass(frozen=True)
class Case:
    """A way to learn."""

    family: str = "qwen3"
    algorithm: str = "sdpo"
    dtype: torch.dtype = torch.float32
    adapters: AdaptersConfig | None = None
    recomputed: bool = False
    read_by_parts: bool = False
    micro_batch_tokens: int = 10_000
    seconds_tokens: int | None = None
    """Of the second process's micro-batches, where it is another number."""
    rows: int = len(BATCH)

    def learner(self, team: Team) -> Learner:
        model = without_dropout(make_model(self.family))
        nn.Module.to(model, self.dtype)
        torch.manual_seed(0)
        bare = Student(model, make_tokenizer(), self.family)
        model = equip(bare, adapters=self.adapters, gradient_checkpointing=self.recomputed).model
        teacher = ExponentialAverage(model, 0.05, team.shard)
        team.shard(model)
        optimizer = Optimizer(model, OptimizerConfig(learning_rate=1e-3, warmup_steps=0))
        own = self.seconds_tokens if team.rank == 1 else None
        return Learner(model, teacher, optimizer, END, MicroBatchSize(own or self.micro_batch_tokens), team)

    def learn(self, learner: Learner) -> UpdateReport:
        batch = BATCH[: self.rows]
        if self.algorithm == "grpo":
            old = sampled_log_probs(learner, batch, temperature=1.0)
            return reinforce(learner, batch, GrpoConfig(), temperature=1.0, old_log_probs=old)
        with patch.object(readout, "WHOLE_LOGITS", 0) if self.read_by_parts else nullcontext():
            return distill(learner, batch, LossConfig(top_k=20), temperature=0.8)


@dataclass(frozen=True)
class Learnt:
    """What two updates came to."""

    reports: list[UpdateReport]
    weights: dict[str, Tensor]
    averages: dict[str, Tensor]


def learnt(case: Case, team: Team | None = None, *, no_room: bool = False) -> Learnt:
    """`no_room`: memory runs out in the second process, in a backward pass."""
    learner = case.learner(_team if team is None else team)
    with _running_out_once() if no_room and _team.rank == 1 else nullcontext():
        reports = [case.learn(learner)]
    reports.append(case.learn(learner))
    assert learner.teacher is not None
    return Learnt(reports, trainable_state(learner.model), learner.teacher.state_dict())


def resumed(case: Case) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Weights, averages and moments after two updates, and after one, a state kept and loaded, and another."""
    through = case.learner(_team)
    case.learn(through)
    kept = _team.gather(_state(through))[0]
    case.learn(through)
    anew = case.learner(_team)
    assert anew.teacher is not None
    load_trainable_state(anew.model, kept[0])
    anew.teacher.load_state_dict(kept[1])
    anew.optimizer.load_state_dict(kept[2])
    case.learn(anew)
    return _state(through), _state(anew)


def held(case: Case) -> int:
    """Bytes of weights, masters, moments and averages in this process, after an update."""
    learner = case.learner(_team)
    case.learn(learner)
    assert learner.teacher is not None
    tensors = [*learner.model.parameters(), *learner.teacher._average.values(), *learner.optimizer._masters.values()]
    tensors += [value for state in learner.optimizer._adamw.state.values() for value in state.values()]
    local: list[Any] = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in local}.values())


def sampled(prompts: Sequence[Sequence[int]], params: SamplingParams, team: Team | None = None) -> list[list[tuple[int, ...]]]:
    """Tokens of responses to prompts."""
    team = _team if team is None else team
    model = make_model()
    team.shard(model)
    engine = TeamEngine(TransformersEngine(model, end_ids=(END,), pad_id=END), team, model)
    return [[one.token_ids for one in group] for group in engine.generate(prompts, params, seed=3, batch_size=8)]


def _state(learner: Learner) -> list[dict[str, Tensor]]:
    assert learner.teacher is not None
    return [trainable_state(learner.model), learner.teacher.state_dict(), learner.optimizer.state_dict()]


@contextmanager
def _running_out_once() -> Iterator[None]:
    """The first backward pass meets a full memory on its way."""
    real, refused = response_readout, False

    def refuse(gradient: Tensor) -> Tensor:
        nonlocal refused
        refused = True
        raise torch.OutOfMemoryError("no room")

    def limited(model: nn.Module, *rows: Any, **options: Any) -> readout.Readout:
        found = real(model, *rows, **options)
        if refused or not torch.is_grad_enabled():
            return found
        features = found.features * 1.0
        features.register_hook(refuse)
        return replace(found, features=features)

    with patch.object(update, "response_readout", limited):
        yield
    assert refused
