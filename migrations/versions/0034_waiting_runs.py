"""The waiting runs of each user"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0034"
down_revision: str | None = "0033"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

IS_QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    op.create_index(
        "ix_runs_waiting",
        "runs",
        ["owner_id", "id"],
        unique=False,
        sqlite_where=IS_QUEUED,
        postgresql_where=IS_QUEUED,
    )


def downgrade() -> None:
    op.drop_index("ix_runs_waiting", table_name="runs")
