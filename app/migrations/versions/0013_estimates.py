"""What runs were expected to take when they were launched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.columns import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "estimates",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("estimate", sa.JSON(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_estimates_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_estimates")),
    )


def downgrade() -> None:
    op.drop_table("estimates")
