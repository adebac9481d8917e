"""A profile as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from opcod.profiling.findings import PartProfile, Profile, StudentProfile

LABELS = {
    "rollout": "rollouts",
    "prefill": "prompts (prefill)",
    "decode": "token by token",
    "verify": "verify answers",
    "feedback": "feedback of tutors",
    "update": "update",
    "self_teacher_prompts": "self-teacher's prompts",
    "teacher_forward": "self-teacher forward",
    "student_forward": "student forward",
    "loss": "loss",
    "token_views": "token details",
    "student_backward": "student backward",
    "optimizer": "optimiser",
    "record": "exchanges",
    "events": "events written",
    "rest": "rest",
}


def tables(found: Profile) -> Iterator[Table | str]:
    """One table a student, then what the figures are."""
    for student in found.students:
        yield _table(student)
        if student.micro_batch_tokens is not None:
            yield f"Micro-batches of at most {student.micro_batch_tokens:,} tokens in the last update."
        if student.skipped_updates:
            yield (
                f"{student.skipped_updates} of {student.steps} steps of {student.student} had nothing to learn from: no correct rollout "
                "beside the one taught, and no kept feedback. Their updates took no time; those of a run will."
            )
    threads = f"{found.threads} CPU thread{'' if found.threads == 1 else 's'}"
    yield f"{found.device}, {threads}. Peak memory: {found.memory}. Every gate counts as open unless the strategy is never."


def _table(one: StudentProfile) -> Table:
    millions = one.trainable_parameters / 1e6
    table = Table(
        title=f"{one.student}, {millions:.3g} million weights trained: {one.seconds:.3g} s a step, mean of {one.steps}", title_style=""
    )
    table.add_column("part", no_wrap=True)
    for head in ("seconds", "share", "tokens/s", "padding", "peak memory"):
        table.add_column(head, justify="right")
    for depth, part in _walk(one.parts):
        table.add_row(
            "  " * depth + LABELS.get(part.name, part.name),
            f"{part.seconds:.3f}",
            f"{100 * part.share:.1f} %",
            "" if part.tokens_per_s is None else f"{part.tokens_per_s:,.0f}",
            "" if part.padding_waste is None else f"{100 * part.padding_waste:.1f} %",
            "" if part.peak_bytes is None else f"{part.peak_bytes / 2**20:,.0f} MiB",
        )
    return table


def _walk(parts: Sequence[PartProfile], depth: int = 0) -> Iterator[tuple[int, PartProfile]]:
    for part in parts:
        yield depth, part
        yield from _walk(part.parts, depth + 1)
