"""Processes that train one student together, one a GPU; each takes its share of a step's prompts and responses.

All of them run the same code on the same data and hear of all results, so that nothing else need know how many they are. Up to
floating point what comes out does not depend on their number.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from opcod.errors import KilledError
from opcod.generation.base import Engine, Generation, SamplingParams
from opcod.students import sharding
from opcod.students.lora import is_adapted

T = TypeVar("T")

PATIENCE = timedelta(minutes=60)
"""How long the first waits for the last: a share of a step's sampling may take long, but not as long as this."""


def even_shares(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Places of `sizes` in `parts` lists of nearly equal sum, each in rising order; every place is in one.

    The largest first, each to whoever has least (Graham, 1969): the largest sum exceeds the mean by less than the largest size.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [(0, part) for part in range(parts)]
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        load, part = heapq.heappop(loads)
        shares[part].append(place)
        heapq.heappush(loads, (load + sizes[place], part))
    return [sorted(share) for share in shares]


class Team:
    """A process that works alone: every share is its own."""

    rank = 0
    size = 1

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of their ranks."""
        return [value]

    def shard(self, model: nn.Module) -> None:
        """Let each process keep its part of the weights. Those around which adapters are trained stay whole."""

    @contextmanager
    def whole(self, *models: nn.Module | None) -> Iterator[None]:
        """The models' weights are whole meanwhile, so that each process may use them as it needs."""
        yield

    def sum_gradients(self, model: nn.Module, token: int) -> None:
        """Add up what the processes' backward passes have left; `token` is any token's id. The model must be `whole`."""

    def spread(self, sizes: Sequence[int], work: Callable[[list[int]], Sequence[T]]) -> list[T]:
        """What `work` makes of each of the places of `sizes`, all of them in order; each process does its share."""
        shares = even_shares(sizes, self.size)
        done = self.gather(work(shares[self.rank]))
        found = {place: made for share, all_made in zip(shares, done, strict=True) for place, made in zip(share, all_made, strict=True)}
        return [found[place] for place in range(len(sizes))]


ALONE = Team()


@dataclass(frozen=True, slots=True)
class Place:
    """One of `size` processes, which find each other through the file `meeting`. None has to wait longer than `patience`.

    Without a meeting they have found each other already (`opcod.training.rendezvous`).
    """

    rank: int
    size: int
    meeting: Path | None
    device: torch.device
    patience: timedelta = PATIENCE


class ProcessTeam(Team):
    """One of several processes, which is this one.

    Raises:
        KilledError: at any call, where one of the others has ended or does not answer.
    """

    def __init__(self, place: Place) -> None:
        self.rank, self.size, self._place = place.rank, place.size, place
        if place.device.type == "cuda":
            torch.cuda.set_device(place.device)
        with explained_silence():
            if place.meeting is not None:
                _meet(place, place.meeting)
            self.mesh = dist.init_device_mesh(place.device.type, (place.size,))

    def gather(self, value: T) -> list[T]:
        found: list[T | None] = [None] * self.size
        with explained_silence():
            dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def shard(self, model: nn.Module) -> None:
        if not is_adapted(model):
            sharding.shard(model, self.mesh)

    @contextmanager
    def whole(self, *models: nn.Module | None) -> Iterator[None]:
        with ExitStack() as stack:
            with explained_silence():
                for model in models:
                    if model is not None:
                        stack.enter_context(sharding.whole(model))
            yield

    def sum_gradients(self, model: nn.Module, token: int) -> None:
        with explained_silence():
            if sharding.is_sharded(model):
                sharding.sum_gradients(model, token)
                return
            trained = [weight for weight in model.parameters() if weight.requires_grad]
            flat = torch.cat([(weight.grad if weight.grad is not None else torch.zeros_like(weight)).flatten() for weight in trained])
            dist.all_reduce(flat)
            for weight, total in zip(trained, flat.split([weight.numel() for weight in trained]), strict=True):
                weight.grad = total.view_as(weight)


def _meet(place: Place, meeting: Path) -> None:
    """Find the others, all of them on this machine."""
    loopback = "lo0" if os.uname().sysname == "Darwin" else "lo"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)  # else it asks who the host's name is, which need not be known
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if place.device.type == "cuda" else "gloo",
        init_method=f"file://{meeting}",
        rank=place.rank,
        world_size=place.size,
        timeout=place.patience,
    )


class TeamEngine:
    """Samples with `engine`, which draws on `model`'s weights, from each process's share of the prompts."""

    def __init__(self, engine: Engine, team: Team, model: nn.Module) -> None:
        self.engine, self.team, self.model = engine, team, model

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seed: int,
        batch_size: int,
        share: Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        """See `opcod.generation.base.Engine`; every process gets all responses."""
        chosen = range(len(prompts)) if share is None else share
        sizes = [len(prompts[place]) + params.n * params.max_new_tokens for place in chosen]

        def sample(places: list[int]) -> list[list[Generation]]:
            own = [chosen[place] for place in places]
            return self.engine.generate(prompts, params, seed=seed, batch_size=batch_size, share=own) if own else []

        with self.team.whole(self.model):
            return self.team.spread(sizes, sample)


@contextmanager
def explained_silence() -> Iterator[None]:
    """Turn what torch says of a process that is gone into an error that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise KilledError(
            "A process of a student's team ended, or did not answer in time.",
            advice="Resume from the last checkpoint; the run's log says more.",
            field="compute.gpus",
        ) from error
