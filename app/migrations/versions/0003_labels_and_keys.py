"""Labels on exchanges; keys of requests that may come again, kept for each person instead of with the experiment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.columns import BIG_INTEGER, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "exchange_labels",
        sa.Column("exchange_id", BIG_INTEGER, nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"], name=op.f("fk_exchange_labels_exchange_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("exchange_id", "label", name=op.f("pk_exchange_labels")),
    )
    op.create_index(op.f("ix_exchange_labels_label"), "exchange_labels", ["label"])
    op.create_table(
        "idempotency_keys",
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("resource_id", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("person", "key", name=op.f("pk_idempotency_keys")),
    )
    op.execute(
        "INSERT INTO idempotency_keys (person, key, fingerprint, resource_id, created_at) "
        "SELECT 'user', idempotency_key, '', id, created_at FROM experiments WHERE idempotency_key IS NOT NULL"
    )
    with op.batch_alter_table("experiments", table_kwargs={"sqlite_autoincrement": True}) as experiments:
        experiments.drop_constraint(op.f("uq_experiments_idempotency_key"), type_="unique")
        experiments.drop_column("idempotency_key")


def downgrade() -> None:
    with op.batch_alter_table("experiments", table_kwargs={"sqlite_autoincrement": True}) as experiments:
        experiments.add_column(sa.Column("idempotency_key", sa.String(), nullable=True))
        experiments.create_unique_constraint(op.f("uq_experiments_idempotency_key"), ["idempotency_key"])
    op.drop_table("idempotency_keys")
    op.drop_index(op.f("ix_exchange_labels_label"), "exchange_labels")
    op.drop_table("exchange_labels")
