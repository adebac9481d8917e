"""Runs on several GPUs: how many a run waits for, how many a worker has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("needs_gpus", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("gpus", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("workers", "gpus")
    op.drop_column("runs", "needs_gpus")
