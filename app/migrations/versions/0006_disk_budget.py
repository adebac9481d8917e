"""What all runs' artefacts may take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.columns import BIG_INTEGER

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "storage",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("budget_bytes", BIG_INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storage")),
    )


def downgrade() -> None:
    op.drop_table("storage")
