"""AdamW with float32 master weights and a linear warm-up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opcod.config import OptimizerConfig
from opcod.errors import CheckpointError, NumericsError
from opcod.students.sharding import as_part, complete, on_cpu


class Optimizer:
    """Updates a model's trainable parameters.

    A parameter in bfloat16 is updated through a float32 copy, since at a rate of 1e-5 a bfloat16 weight
    would round most of its updates away; a float32 parameter is its own master.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self.updates = 0
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._masters = {
            name: weight if weight.dtype is torch.float32 else nn.Parameter(weight.detach().float())
            for name, weight in self._weights.items()
        }
        self._adamw = torch.optim.AdamW(
            list(self._masters.values()),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )

    @property
    def learning_rate(self) -> float:
        """Rate of the next update: linear over `warmup_steps` updates, then constant (method section 7)."""
        warmup = self.config.warmup_steps
        return self.config.learning_rate * (min(1.0, (self.updates + 1) / warmup) if warmup else 1.0)

    def step(self) -> float:
        """Clip the gradients, update the weights, clear the gradients; returns the norm before clipping.

        Raises:
            NumericsError: a gradient is not finite; the weights are left as they were.
        """
        for name, weight in self._weights.items():
            master = self._masters[name]
            if master is not weight:
                master.grad = None if weight.grad is None else weight.grad.float()
                weight.grad = None
        norm = float(complete(nn.utils.clip_grad_norm_(list(self._masters.values()), self.config.gradient_clip)))
        if not torch.isfinite(torch.tensor(norm)):
            raise NumericsError(
                f"The gradient is not finite ({norm}) at update {self.updates + 1}.",
                advice="Lower the learning rate, use float32, or look at the step's exchanges for degenerate responses.",
            )
        for group in self._adamw.param_groups:
            group["lr"] = self.learning_rate
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        self.updates += 1
        with torch.no_grad():
            for name, weight in self._weights.items():
                if self._masters[name] is not weight:
                    weight.copy_(self._masters[name])
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """Moments, step counts and (for bfloat16 weights) masters as plain tensors, ready for safetensors. See `on_cpu`."""
        state = {"updates": torch.tensor(self.updates)}
        for name, master in self._masters.items():
            for key, value in self._adamw.state.get(master, {}).items():
                state[f"{key}/{name}"] = on_cpu(value)
            if master is not self._weights[name]:
                state[f"master/{name}"] = on_cpu(master)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state, bit for bit.

        Raises:
            CheckpointError: the state belongs to another model.
        """
        known = set(self._masters)
        if unknown := sorted({key.split("/", 1)[1] for key in state if "/" in key} - known):
            raise CheckpointError(
                f"The checkpoint's optimiser state names unknown weights: {unknown[0]}.",
                advice="Resume with the configuration that wrote it.",
            )
        self.updates = int(state["updates"])
        for name, master in self._masters.items():
            moments = {
                key.split("/", 1)[0]: value for key, value in state.items() if key.endswith(f"/{name}") and key.split("/", 1)[1] == name
            }
            saved_master = moments.pop("master", None)
            if saved_master is not None:
                with torch.no_grad():
                    master.copy_(as_part(saved_master, master))
            if moments:
                self._adamw.state[master] = {
                    key: value.clone() if key == "step" else as_part(value, master).clone() for key, value in moments.items()
                }
