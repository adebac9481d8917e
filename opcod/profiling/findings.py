"""What a profile found, as plain data."""

from __future__ import annotations

from pydantic import BaseModel


class PartProfile(BaseModel):
    """One part of a step; figures are means over the measured steps and include those of its own parts."""

    name: str
    seconds: float
    share: float
    """Of the whole step."""
    tokens: float
    """That went through a model."""
    tokens_per_s: float | None
    padding_waste: float | None
    """Padding's share of all positions that went through a model."""
    peak_bytes: int | None
    """Most memory held while it ran, over all measured steps."""
    parts: list[PartProfile] = []


class StudentProfile(BaseModel):
    """Steps of one student's phase."""

    student: str
    trainable_parameters: int
    vocabulary: int
    steps: int
    seconds: float
    """Mean of a step with the writing of its events."""
    skipped_updates: int
    """Steps that had nothing to learn from, so that their update took no time."""
    micro_batch_tokens: int | None = None
    """The most tokens that a pass of the last update might compute."""
    parts: list[PartProfile]


class Profile(BaseModel):
    """A profile of a configuration on a machine."""

    device: str
    threads: int
    memory: str
    """What `peak_bytes` measures."""
    students: list[StudentProfile]
