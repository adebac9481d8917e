"""The self-teacher's weights: an exponential moving average of the student's (method section 4; SDPO, arXiv 2601.20802)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from opcod.errors import CheckpointError
from opcod.students.lora import copy_around_frozen
from opcod.students.sharding import as_part, on_cpu


class ExponentialAverage:
    """theta_T <- (1 - rate) theta_T + rate theta, over the trainable parameters only (with LoRA: the adapters).

    `model` runs the teacher's forward passes: in evaluation mode, without gradients. It shares the
    student's frozen weights and keeps its own buffers as they were. The average is kept in float32,
    since in bfloat16 a step of 5 % of a small difference would round to nothing.

    Rate 0 leaves the teacher as it was; rate 1 makes it equal to the student after each update. `shard` is told of the
    teacher's model before its weights are looked at; the student's is sharded after it.
    """

    def __init__(self, model: nn.Module, rate: float, shard: Callable[[nn.Module], None] = lambda _: None) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must lie in [0, 1], not {rate}")
        self.rate = rate
        names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.model = copy_around_frozen(model)
        self.model.requires_grad_(False)
        self.model.eval()
        shard(self.model)
        own = {name: parameter for name, parameter in self.model.named_parameters() if name in names}
        self._weights: dict[str, Tensor] = {name: parameter.detach() for name, parameter in own.items()}
        self._average: dict[str, Tensor] = {
            name: weight if weight.dtype is torch.float32 else weight.float() for name, weight in self._weights.items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the student's weights; call it after the optimiser's step."""
        student = dict(model.named_parameters())
        for name, average in self._average.items():
            average.lerp_(student[name].detach().float(), self.rate)
        self._write()

    def state_dict(self) -> dict[str, Tensor]:
        """The float32 averages by parameter name; copies, as `on_cpu` makes them."""
        return {name: on_cpu(average) for name, average in self._average.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved average, bit for bit.

        Raises:
            CheckpointError: the names or shapes are not this model's.
        """
        shapes = {name: tuple(average.shape) for name, average in self._average.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in state.items()}:
            raise CheckpointError(
                "The checkpoint's self-teacher belongs to another model or other adapters.",
                advice="Resume with the configuration that wrote it.",
            )
        for name, average in self._average.items():
            average.copy_(as_part(state[name], average))
        self._write()

    def _write(self) -> None:
        for name, average in self._average.items():
            if self._weights[name] is not average:
                self._weights[name].copy_(average)
