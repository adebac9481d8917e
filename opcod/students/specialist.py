"""Making a specialist: fine-tuning a base model on the worked solutions of a domain (paper Appendix D.1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opcod.config import DomainConfig, config_faults
from opcod.errors import ConfigError, DataError
from opcod.generation.policy import question_messages
from opcod.students.export import export_student
from opcod.students.loading import DTYPES, load_student, resolve_device
from opcod.students.sft import SftExample, SftReport, sft
from opcod.students.sft_config import SftConfig
from opcod.tasks.questions import load_domains


class SpecialistConfig(BaseModel):
    """What to teach whom; the YAML file of ``python -m opcod sft``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="Base model: hub id or local folder.", min_length=1)
    domains: list[DomainConfig] = Field(
        description="As in a run's configuration; training questions need the column `solution`, and only they are used.", min_length=1
    )
    sft: SftConfig = SftConfig()
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


def make_specialist(config: SpecialistConfig, out: Path, *, on_step: Callable[[int, int, float], None]) -> SftReport:
    """Fine-tune the base model on every domain's training solutions and write it to `out` as an ordinary folder.

    Raises:
        DataError: a training question has no solution, or the data is at fault otherwise.
        ModelError: the base model cannot be loaded.
        NumericsError: the loss is not finite.
    """
    examples = []
    for domain in load_domains(config.domains):
        for question in domain.train:
            if question.solution is None:
                raise DataError(
                    f"Question {question.id!r} of {domain.name} has no solution to learn from.",
                    advice="Fill the column in, name it under columns.solution, or remove the row.",
                )
            examples.append(SftExample(question_messages(question), question.solution))
    student = load_student(
        config.model,
        device=resolve_device(config.device),
        dtype=DTYPES[config.dtype],
        gradient_checkpointing=config.gradient_checkpointing,
    )
    torch.manual_seed(config.sft.seed)
    report = sft(student, examples, config.sft, on_step=on_step)
    export_student(student, out)
    return report
