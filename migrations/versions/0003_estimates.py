"""estimates: predictions of memory and time, and what is needed to hold them against measurements"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "estimates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("request_json", JSON, nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("result_json", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_estimates")),
        sa.UniqueConstraint("key", name=op.f("uq_estimates_key")),
    )
    with op.batch_alter_table("estimates", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_estimates_status"), ["status"], unique=False)

    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("precision", sa.String(length=10), nullable=True))
        batch_op.add_column(sa.Column("libraries", sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column("failure_ledger_json", JSON, nullable=True))
        batch_op.add_column(sa.Column("estimate_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("predicted_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("predicted_flops", sa.Double(), nullable=True))
        batch_op.create_index("ix_runs_device_name_precision_id", ["device_name", "precision", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_runs_estimate_id"), ["estimate_id"], unique=False)
        batch_op.create_foreign_key(batch_op.f("fk_runs_estimate_id_estimates"), "estimates", ["estimate_id"], ["id"])

    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("bf16", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("matmul_flops", sa.Double(), nullable=True))
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.alter_column("bf16", existing_type=sa.Boolean(), existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_column("matmul_flops")
        batch_op.drop_column("bf16")

    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_runs_estimate_id_estimates"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_runs_estimate_id"))
        batch_op.drop_index("ix_runs_device_name_precision_id")
        batch_op.drop_column("predicted_flops")
        batch_op.drop_column("predicted_bytes")
        batch_op.drop_column("estimate_id")
        batch_op.drop_column("failure_ledger_json")
        batch_op.drop_column("libraries")
        batch_op.drop_column("precision")

    with op.batch_alter_table("estimates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_estimates_status"))

    op.drop_table("estimates")
