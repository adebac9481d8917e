"""Students that people register, bring or have made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("students", sa.Column("owner", sa.String(), nullable=True))
    op.add_column("students", sa.Column("kept", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("students", sa.Column("job_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    for column in ("job_id", "kept", "owner"):
        op.drop_column("students", column)
