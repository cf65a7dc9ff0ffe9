"""Limits of roles and users, and the device time of attempts"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0033"
down_revision: str | None = "0032"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

OF_RUNS = ("reserved_seconds", "attempt_seconds", "charged_seconds")


def upgrade() -> None:
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    for name in OF_RUNS:
        op.add_column("runs", sa.Column(name, sa.Double(), server_default="0", nullable=False))
    op.add_column("studies", sa.Column("reserved_json", json, server_default="{}", nullable=False))
    op.create_table(
        "quota_limits",
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("quota", sa.String(length=40), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("subject", "quota", name=op.f("pk_quota_limits")),
    )
    op.create_table(
        "device_usage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_usage")),
        sa.UniqueConstraint("run_id", "epoch", name=op.f("uq_device_usage_run_id_epoch")),
    )
    op.create_index("ix_device_usage_user", "device_usage", ["user_id", "ended_at", "seconds"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_device_usage_user", table_name="device_usage")
    op.drop_table("device_usage")
    op.drop_table("quota_limits")
    op.drop_column("studies", "reserved_json")
    for name in reversed(OF_RUNS):
        op.drop_column("runs", name)
