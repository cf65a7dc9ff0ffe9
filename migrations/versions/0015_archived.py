"""runs and studies can be archived"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

IS_ARCHIVED = sa.text("archived")


def upgrade() -> None:
    for table in ("base_models", "collections", "studies", "runs"):
        with op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": True}, recreate="auto") as batch:
            batch.alter_column("id", existing_type=sa.Integer())
    for table in ("runs", "studies"):
        with op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": True}) as batch:
            batch.add_column(sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()))
        with op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": True}) as batch:
            batch.alter_column("archived", server_default=None)
    op.create_index("ix_runs_archived", "runs", ["id"], sqlite_where=IS_ARCHIVED, postgresql_where=IS_ARCHIVED)


def downgrade() -> None:
    op.drop_index("ix_runs_archived", table_name="runs")
    for table in ("runs", "studies"):
        with op.batch_alter_table(table) as batch:
            batch.drop_column("archived")
