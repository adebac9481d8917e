"""Sizes and states of artefacts, notices, and the list of runs to remove."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.columns import BIG_INTEGER, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("size_bytes", BIG_INTEGER, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("deleted_at", UtcDateTime(), nullable=True))
    op.add_column("checkpoints", sa.Column("state", sa.String(), nullable=False, server_default="saving"))
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_notices_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_notices_run_id_id"), "notices", ["run_id", "id"])
    op.create_table(
        "deletions",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("requested_at", UtcDateTime(), nullable=False),
        sa.Column("rows_gone_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_deletions")),
    )


def downgrade() -> None:
    op.drop_table("deletions")
    op.drop_index(op.f("ix_notices_run_id_id"), table_name="notices")
    op.drop_table("notices")
    op.drop_column("checkpoints", "state")
    op.drop_column("runs", "deleted_at")
    op.drop_column("runs", "size_bytes")
