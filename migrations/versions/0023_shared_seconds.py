"""Share of a group's time of runs that train together"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("shared_seconds", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "shared_seconds")
