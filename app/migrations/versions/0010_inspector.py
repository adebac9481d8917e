"""Answers with the feedback in the prompt, comments on exchanges, and saved views."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.columns import BIG_INTEGER, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("again_text", sa.Text(), nullable=True))
    op.add_column("exchanges", sa.Column("again_correct", sa.Boolean(), nullable=True))
    op.add_column("exchanges", sa.Column("again_extracted", sa.Text(), nullable=True))
    op.add_column("exchanges", sa.Column("effect", sa.String(), nullable=True))
    op.create_index(op.f("ix_exchanges_run_id_effect_id"), "exchanges", ["run_id", "effect", "id"])
    op.create_table(
        "comments",
        sa.Column("id", BIG_INTEGER, nullable=False),
        sa.Column("exchange_id", BIG_INTEGER, nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"], name=op.f("fk_comments_exchange_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comments")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_comments_exchange_id_id"), "comments", ["exchange_id", "id"])
    op.create_table(
        "views",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_views")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_views_owner_name")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("views")
    op.drop_table("comments")
    op.drop_index(op.f("ix_exchanges_run_id_effect_id"), "exchanges")
    for column in ("effect", "again_extracted", "again_correct", "again_text"):
        op.drop_column("exchanges", column)
