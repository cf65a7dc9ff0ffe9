"""a worker's GPU: its measured context, and why it cannot be used"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("context_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("problem", sa.String(length=600), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "problem")
    op.drop_column("workers", "context_bytes")
