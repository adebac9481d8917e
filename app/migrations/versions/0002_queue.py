"""The queue: owners, fair turns, priorities, what a run needs and what a worker offers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("owner", sa.String(), nullable=False, server_default="user"),
        sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("copied_from", sa.Integer(), nullable=True),
        sa.Column("retried_as", sa.Integer(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("turn", sa.Float(), nullable=False, server_default="0"),
        sa.Column("needs_device", sa.String(), nullable=True),
        sa.Column("needs_memory_gib", sa.Float(), nullable=True),
    ):
        op.add_column("runs", column)
    op.execute("UPDATE runs SET turn = id")  # runs that wait keep their order
    op.create_index(op.f("ix_runs_owner"), "runs", ["owner"])
    op.drop_index(op.f("ix_runs_status_queued_at_id"), "runs")
    op.create_index(op.f("ix_runs_status_priority_turn_id"), "runs", ["status", "priority", "turn", "id"])

    op.add_column("attempts", sa.Column("device_key", sa.String(), nullable=True))
    held = sa.text("ended_at IS NULL")
    op.create_index("ux_attempts_device_key", "attempts", ["device_key"], unique=True, sqlite_where=held, postgresql_where=held)

    op.add_column("workers", sa.Column("labels", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("workers", sa.Column("memory_gib", sa.Float(), nullable=True))


def downgrade() -> None:
    for column in ("memory_gib", "labels"):
        op.drop_column("workers", column)
    op.drop_index("ux_attempts_device_key", "attempts")
    op.drop_column("attempts", "device_key")
    op.drop_index(op.f("ix_runs_status_priority_turn_id"), "runs")
    op.create_index(op.f("ix_runs_status_queued_at_id"), "runs", ["status", "queued_at", "id"])
    op.drop_index(op.f("ix_runs_owner"), "runs")
    for column in (
        "needs_memory_gib",
        "needs_device",
        "turn",
        "priority",
        "retried_as",
        "copied_from",
        "archived",
        "tags",
        "owner",
    ):
        op.drop_column("runs", column)
