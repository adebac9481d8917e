"""What an estimate says: figures with their uncertainty, what they are made of, and what they rest on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Figure(BaseModel):
    """A number that is expected, and its bounds in nine cases of ten. All null where it is not known: `reason` says why."""

    model_config = ConfigDict(frozen=True)

    value: float | None = Field(description="What is expected; null where it is not known.")
    low: float | None = Field(None, description="Lower end of the 90 % interval.")
    high: float | None = Field(None, description="Upper end of the 90 % interval.")
    reason: str = Field("", description="Why it is not known, or is so uncertain; empty where there is nothing to say.")

    @classmethod
    def around(cls, value: float, factor: float, *, low: float | None = None, reason: str = "") -> Figure:
        """A value that may be off by `factor`, up and down; `low` where it may be lower still."""
        return cls(value=value, low=min(value / factor, value if low is None else low), high=value * factor, reason=reason)

    @classmethod
    def unknown(cls, reason: str) -> Figure:
        """No number."""
        return cls(value=None, reason=reason)


class Part(BaseModel):
    """A part of the time."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="`startup`, `evaluation`, `rollout`, `feedback`, `break_rescue`, `update`, `rest`.")
    seconds: float = Field(description="Of the whole run.")


class Basis(BaseModel):
    """What an estimate rests on."""

    model_config = ConfigDict(frozen=True)

    device: str = Field(description="Where the run is expected to train.")
    own_runs: int = Field(description="Completed runs on that device that the times were fitted on.")
    shipped_runs: int = Field(description="Runs that came with the package, or were made on other devices of the kind, and helped.")
    steps: int = Field(description="Measured steps of all of them.")


class Estimate(BaseModel):
    """What an experiment will take."""

    model_config = ConfigDict(frozen=True)

    seconds: Figure = Field(description="From the start of its process to its verdict.")
    memory_bytes: Figure = Field(description="At its peak: of the GPU, or of the processes that train where it runs on a CPU.")
    disk_bytes: Figure = Field(description="What its checkpoints and exports take in the end.")
    tokens: Figure = Field(description="Tokens that are sampled: rollouts, feedback, answers of scoring.")
    training_tokens: Figure = Field(description="Of these, in rollouts and feedback.")
    parts: list[Part] = Field(description="Where the time goes; empty where it is not known.")
    basis: Basis = Field(description="What it rests on.")
    notes: list[str] = Field(description="What is assumed, in words.")
