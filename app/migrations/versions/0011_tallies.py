"""Exchanges counted by step, for charts; metrics found by step. What was recorded before is counted here, once."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

OUTCOMES = ("kept", "no_concept_tag", "empty", "all_generic", "no_match", "fb_none")
COUNTS = ("rollouts", "correct", "truncated", "tokens", *OUTCOMES)
EXCHANGES = """
    SELECT x.run_id, x.tutee, x.step, x.round, x.rollout_tokens, x.correct, x.truncated, x.divergence_mean, x.outcome,
           length(f.raw), e.at
    FROM exchanges x
    JOIN events e ON e.run_id = x.run_id AND e.seq = x.seq
    LEFT JOIN feedbacks f ON f.run_id = x.run_id AND f.seq = x.seq
    ORDER BY x.run_id, x.id
"""


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    table = op.create_table(
        "step_tallies",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("student", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        *(sa.Column(name, big if name == "tokens" else sa.Integer(), nullable=False) for name in COUNTS),
        sa.Column("histograms", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_step_tallies_run_id")),
        sa.PrimaryKeyConstraint("run_id", "student", "step", name=op.f("pk_step_tallies")),
    )
    op.create_index(op.f("ix_metrics_run_id_name_step"), "metrics", ["run_id", "name", "step"])
    rows = list(_counted(op.get_bind()).values())
    for start in range(0, len(rows), 500):
        op.bulk_insert(table, rows[start : start + 500])


def _counted(connection: sa.Connection) -> dict[tuple[int, str, int], dict[str, Any]]:
    found: dict[tuple[int, str, int], dict[str, Any]] = {}
    columns = sa.text(EXCHANGES).columns(at=sa.DateTime(timezone=True))
    for run_id, tutee, step, number, tokens, correct, truncated, divergence, outcome, characters, at in connection.execute(columns):
        row = found.setdefault(
            (run_id, tutee, step),
            {"run_id": run_id, "student": tutee, "step": step, "round": number, **dict.fromkeys(COUNTS, 0), "histograms": {}},
        )
        row["rollouts"] += 1
        row["correct"] += bool(correct)
        row["truncated"] += bool(truncated)
        row["tokens"] += tokens
        row["at"] = at
        if outcome in OUTCOMES:
            row[outcome] += 1
        for name, value in (("response_tokens", tokens), ("feedback_characters", characters), ("divergence", divergence)):
            if value is not None:
                bin_name = str(math.floor(4 * math.log2(value))) if value > 0 else "zero"
                counts = row["histograms"].setdefault(name, Counter())
                counts[bin_name] += 1
    return found


def downgrade() -> None:
    op.drop_index(op.f("ix_metrics_run_id_name_step"), table_name="metrics")
    op.drop_table("step_tallies")
