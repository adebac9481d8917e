"""Settings of supervised fine-tuning; defaults are the paper's for its specialists (Appendix D.1)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from opcod.config import AdaptersConfig


class SftConfig(BaseModel):
    """How to fine-tune on written answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(3, description="Times that every example is seen.", ge=1, le=1000)
    batch_size: int = Field(16, description="Examples of one update.", ge=1, le=65_536)
    learning_rate: float = Field(2e-4, description="Largest learning rate.", gt=0, le=1)
    schedule: Literal["cosine", "constant"] = Field("cosine", description="After the warm-up: down to 0 along a cosine, or level.")
    warmup_ratio: float = Field(0.1, description="Share of the updates over which the rate rises from 0.", ge=0, le=1)
    weight_decay: float = Field(0.0, description="Decoupled weight decay.", ge=0, le=1)
    beta2: float = Field(0.999, description="AdamW beta 2.", ge=0, lt=1)
    gradient_clip: float = Field(1.0, description="Largest gradient norm.", gt=0)
    adapters: AdaptersConfig | None = Field(
        AdaptersConfig(), description="LoRA adapters, merged at the end; empty: every weight is trained."
    )
    max_tokens: int = Field(2048, description="Longest example, prompt and answer, in tokens; longer ones are left out.", ge=2)
    micro_batch_tokens: int = Field(16_384, description="Padded tokens computed together; lower it when memory runs out.", ge=64)
    seed: int = Field(0, description="Draws the order and the adapters' first weights.", ge=0, le=2**31 - 1)
