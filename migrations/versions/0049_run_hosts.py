"""Runs on several hosts"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0049"
down_revision: str | None = "0048"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

IS_OPEN = sa.text("ended IS NULL")


def upgrade() -> None:
    op.add_column("workers", sa.Column("address", sa.String(length=60), nullable=True))
    op.create_table(
        "run_hosts",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=120), nullable=False),
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(length=60), nullable=False),
        sa.Column("endpoint", sa.String(length=80), nullable=True),
        sa.Column("resumes_from", sa.String(length=200), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.String(length=20), nullable=True),
        sa.Column("failure_json", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "epoch", "worker", name=op.f("pk_run_hosts")),
    )
    op.create_index(
        "ix_run_hosts_open",
        "run_hosts",
        ["lease_expires_at"],
        unique=False,
        sqlite_where=IS_OPEN,
        postgresql_where=IS_OPEN,
    )


def downgrade() -> None:
    op.drop_index("ix_run_hosts_open", table_name="run_hosts", sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)
    op.drop_table("run_hosts")
    op.drop_column("workers", "address")
