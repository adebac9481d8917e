"""Where a run's trace goes on from: the context of the request that queued it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("transitions", sa.Column("traceparent", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("transitions", "traceparent")
