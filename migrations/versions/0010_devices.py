"""GPUs of workers, and the attempts that have them"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("uuid", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("worker", sa.String(length=120), nullable=True),
        sa.PrimaryKeyConstraint("uuid", name=op.f("pk_devices")),
    )
    devices = sa.Column(
        "devices_json", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False, server_default=sa.text("'[]'")
    )
    with op.batch_alter_table("workers") as table:
        table.add_column(devices)
    with op.batch_alter_table("workers") as table:
        table.alter_column("devices_json", server_default=None)


def downgrade() -> None:
    op.drop_column("workers", "devices_json")
    op.drop_table("devices")
