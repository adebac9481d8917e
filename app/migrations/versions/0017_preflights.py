"""The pre-flight that foretold a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("estimates") as table:
        table.add_column(sa.Column("preflight_id", sa.Integer(), nullable=True))
        table.create_foreign_key(op.f("fk_estimates_preflight_id"), "jobs", ["preflight_id"], ["id"])
        table.create_index(op.f("ix_estimates_preflight_id"), ["preflight_id"])


def downgrade() -> None:
    with op.batch_alter_table("estimates") as table:
        table.drop_index(op.f("ix_estimates_preflight_id"))
        table.drop_constraint(op.f("fk_estimates_preflight_id"), type_="foreignkey")
        table.drop_column("preflight_id")
