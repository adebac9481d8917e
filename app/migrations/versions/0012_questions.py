"""Exchanges of a question are found without its domain."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_exchanges_run_id_question_id_id"), "exchanges", ["run_id", "question_id", "id"])
    op.drop_index(op.f("ix_exchanges_run_id_domain_question_id_id"), "exchanges")


def downgrade() -> None:
    op.create_index(op.f("ix_exchanges_run_id_domain_question_id_id"), "exchanges", ["run_id", "domain", "question_id", "id"])
    op.drop_index(op.f("ix_exchanges_run_id_question_id_id"), "exchanges")
