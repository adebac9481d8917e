"""Sweeps and their points."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.columns import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("preset", sa.String(), nullable=True),
        sa.Column("ablation", sa.String(), nullable=True),
        sa.Column("axes", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sweeps_owner"), "sweeps", ["owner"])
    op.create_table(
        "sweep_points",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_sweep_points_experiment_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_sweep_points_run_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_points_sweep_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sweep_id", "place", name=op.f("pk_sweep_points")),
    )
    op.create_index(op.f("ix_sweep_points_run_id"), "sweep_points", ["run_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_sweep_points_run_id"), "sweep_points")
    op.drop_table("sweep_points")
    op.drop_index(op.f("ix_sweeps_owner"), "sweeps")
    op.drop_table("sweeps")
