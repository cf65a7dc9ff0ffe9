"""The order of the queue: priorities, places, and runs that are paused"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0040"
down_revision: str | None = "0041"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

IS_QUEUED = sa.text("status = 'queued'")
IS_WAITING = sa.text("status = 'queued' AND NOT paused")
ORDER = ["owner_id", "precedence", "place", "id"]


def upgrade() -> None:
    for table in ("runs", "studies"):
        op.add_column(table, sa.Column("precedence", sa.Integer(), server_default="1", nullable=False))
        op.add_column(table, sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("runs", sa.Column("place", sa.BigInteger(), server_default="0", nullable=False))
    op.execute("UPDATE runs SET place = id WHERE status IN ('queued', 'running')")
    op.drop_index("ix_runs_waiting", table_name="runs")
    op.create_index("ix_runs_waiting", "runs", ORDER, sqlite_where=IS_WAITING, postgresql_where=IS_WAITING)


def downgrade() -> None:
    op.drop_index("ix_runs_waiting", table_name="runs")
    op.create_index("ix_runs_waiting", "runs", ["owner_id", "id"], sqlite_where=IS_QUEUED, postgresql_where=IS_QUEUED)
    op.drop_column("runs", "place")
    for table in ("runs", "studies"):
        op.drop_column(table, "paused")
        op.drop_column(table, "precedence")
