"""A run trains on one host: no hosts of runs, no addresses of workers."""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op

revision: str = "0056"
down_revision: str | None = "0055"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("UPDATE runs SET failure_code = 'lost' WHERE failure_code = 'not_joined'")
    op.drop_index("ix_run_hosts_open", table_name="run_hosts")
    op.drop_table("run_hosts")
    with op.batch_alter_table("workers") as batch:
        batch.drop_column("address")


def downgrade() -> None:
    with op.batch_alter_table("workers") as batch:
        batch.add_column(sa.Column("address", sa.String(length=60), nullable=True))
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
        sa.Column("failure_json", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "epoch", "worker", name=op.f("pk_run_hosts")),
    )
    op.create_index(
        "ix_run_hosts_open",
        "run_hosts",
        ["lease_expires_at"],
        unique=False,
        sqlite_where=sa.text("ended IS NULL"),
        postgresql_where=sa.text("ended IS NULL"),
    )
