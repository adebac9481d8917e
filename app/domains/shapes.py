"""What the REST interface says of uploads, and what it is told of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.shapes import DataFinding, DomainQuestion, Shape, SplitShape
from opcod.config import ColumnsConfig, Name, VerifierConfig
from opcod.tasks.preparing import Mend
from opcod.types import Split

MOST_HELD_OUT = 100_000


class ColumnShape(Shape):
    """A column of an uploaded file."""

    name: str = Field(description="As the file has it.")
    kind: Literal["text", "number", "other"] = Field(description="`other`: lists, objects, or several kinds; nothing can be read from it.")
    filled: int = Field(description="Rows in which something stands.")
    example: str = Field(description="The first thing that stands in it, cut.")


class UploadedFile(Shape):
    """One file of an upload."""

    split: Split = Field(description="What it was brought as.")
    name: str = Field(description="As it was called where it came from.")
    size_bytes: int = Field(description="As it was brought.")
    rows: int = Field(description="Rows in it.")
    columns: list[ColumnShape] = Field(description="At most 200 of them.")


class Guess(Shape):
    """What likely stands where."""

    columns: ColumnsConfig = Field(description="By the columns' names, else by what stands in them.")
    verifier: VerifierConfig = Field(description="The narrowest kind that can use every answer.")


class KeptDomain(Shape):
    """The domain that was made of an upload."""

    domain_id: int = Field(description="Its number among the domains.")
    config: dict[str, Any] = Field(description="Put it among an experiment's `domains`.")
    questions: dict[Split, int] = Field(description="How many each split has.")
    mended: dict[Mend, int] = Field(description="Rows that were dropped, or given other ids, as was asked for.")
    saved_at: datetime = Field(description="When it was made.")


class Upload(Shape):
    """Files that somebody brought. They never change; neither does the domain that is made of them."""

    id: int = Field(description="Number of the upload.")
    owner: str = Field(description="Who brought it.")
    created_at: datetime = Field(description="When.")
    files: list[UploadedFile] = Field(description="Train, and validation and test where they were brought.")
    guess: Guess = Field(description="The columns of question, answer and so on, as far as can be told.")
    domain: KeptDomain | None = Field(description="Null until it is saved.")


class HoldOut(BaseModel):
    """Questions of train that become those of a split that was not brought."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: int = Field(0, description="At least so many; 0 where a file was brought.", ge=0, le=MOST_HELD_OUT)
    test: int = Field(0, description="The same for test.", ge=0, le=MOST_HELD_OUT)


class UploadMapping(BaseModel):
    """What an upload's columns mean, and what is to be done with its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="What the domain is called: letters, digits, `_`, `.` and `-`.", examples=["physics"])
    columns: ColumnsConfig | None = Field(None, description="Null: as guessed.")
    verifier: VerifierConfig | None = Field(None, description="Null: as guessed.")
    system_prompt: str | None = Field(None, description="For rows that bring none.", max_length=20_000)
    hold_out: HoldOut = Field(HoldOut(), description="For splits that were not brought.")
    mend: list[Mend] = Field(
        [],
        description="What is mended when it is saved. `unanswerable`, `long_prompts`, `duplicates`, `leaks`: such rows are dropped. "
        "`ids`: questions are numbered anew.",
        max_length=5,
        examples=[["leaks", "duplicates"]],
    )


class MendShape(Shape):
    """Something that can be mended without asking."""

    name: Mend = Field(description="Give it in `mend`.")
    rows: int = Field(description="Rows that it would drop, or give other ids, or does.")
    chosen: bool = Field(description="Whether it is in `mend`.")


class UploadQuestion(DomainQuestion):
    """A question as a student will see it."""

    system: str | None = Field(description="The system prompt before it.")


class UploadCheck(Shape):
    """What a domain would be with a mapping, and what is wrong with it."""

    ready: bool = Field(description="Whether it can be saved.")
    splits: list[SplitShape] = Field(description="As they would be kept.")
    findings: list[DataFinding] = Field(description="What stops a run first.")
    mended: list[DataFinding] = Field(description="What would be found were it not mended.")
    mends: list[MendShape] = Field(description="What there is to mend.")
    sample: list[UploadQuestion] = Field(description="The first training questions.")
