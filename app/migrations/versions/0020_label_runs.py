"""Labels say which run their exchange is of, so that a run's are counted without a look at its exchanges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("exchange_labels", sa.Column("run_id", sa.Integer(), nullable=True))
    op.execute("UPDATE exchange_labels SET run_id = (SELECT run_id FROM exchanges WHERE exchanges.id = exchange_labels.exchange_id)")
    with op.batch_alter_table("exchange_labels") as table:
        table.alter_column("run_id", existing_type=sa.Integer(), nullable=False)
    op.create_index(op.f("ix_exchange_labels_run_id_label"), "exchange_labels", ["run_id", "label"])


def downgrade() -> None:
    op.drop_index(op.f("ix_exchange_labels_run_id_label"), "exchange_labels")
    op.drop_column("exchange_labels", "run_id")
