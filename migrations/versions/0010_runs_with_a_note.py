"""an index of the few runs that have a note"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HAS_NOTE = sa.text("note <> ''")


def upgrade() -> None:
    op.create_index("ix_runs_noted", "runs", ["id"], sqlite_where=HAS_NOTE, postgresql_where=HAS_NOTE)


def downgrade() -> None:
    op.drop_index("ix_runs_noted", table_name="runs")
