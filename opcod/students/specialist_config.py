"""What makes a specialist: whom to teach what, and how it is looked at before and after. Free of torch, so that a form can check it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opcod.config import DomainConfig, config_faults
from opcod.errors import ConfigError
from opcod.students.sft_config import SftConfig


class LookConfig(BaseModel):
    """How well it does on each domain's validation questions, before and after. Test questions are left for runs."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    questions: int = Field(64, description="Validation questions of each domain; 0: no look.", ge=0, le=4096)
    samples: int = Field(4, description="Answers sampled to each.", ge=1, le=64)
    max_response_tokens: int = Field(512, description="Longest answer.", ge=1, le=32_768)
    temperature: float = Field(0.6, description="Sampling temperature; 0 is greedy.", ge=0, le=5)
    top_p: float = Field(0.95, description="Nucleus of the sampler.", gt=0, le=1)
    batch_size: int = Field(64, description="Answers sampled together.", ge=1, le=4096)


class SpecialistConfig(BaseModel):
    """What to teach whom; the YAML file of ``python -m opcod sft``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="Base model: hub id or local folder.", min_length=1)
    domains: list[DomainConfig] = Field(
        description="As in a run's configuration; training questions teach; to learn solutions they need the column `solution`.",
        min_length=1,
    )
    learn: Literal["solutions", "answers"] = Field(
        "solutions", description="What is learned: each training question's worked solution, or its bare answer as the verifier reads it."
    )
    sft: SftConfig = SftConfig()
    look: LookConfig = LookConfig(questions=0)
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Precision of weights and activations.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass: less memory, more time.")


def parse_specialist(data: Any) -> SpecialistConfig:
    """Validate plain data.

    Raises:
        ConfigError: every fault with its path.
    """
    try:
        return SpecialistConfig.model_validate(data)
    except ValidationError as error:
        faults = config_faults(error)
        lines = "; ".join(f"{path}: {message}" if path else message for path, message in faults)
        raise ConfigError(f"The configuration is not valid: {lines}.", advice="Mend these entries.", field=faults[0][0] or None) from None
