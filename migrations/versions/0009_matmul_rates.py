"""matrix-product throughput of a worker's device by the width of a layer"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    rates = sa.Column(
        "matmul_rates", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False, server_default=sa.text("'{}'")
    )
    with op.batch_alter_table("workers") as table:
        table.add_column(rates)
    with op.batch_alter_table("workers") as table:
        table.alter_column("matmul_rates", server_default=None)


def downgrade() -> None:
    op.drop_column("workers", "matmul_rates")
