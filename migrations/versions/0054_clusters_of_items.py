"""Clusters of test items"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0054"
down_revision: str | None = "0053"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("clusters", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("evaluations", "clusters")
