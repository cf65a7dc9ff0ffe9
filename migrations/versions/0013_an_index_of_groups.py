"""an index of groups of runs by seed"""

from collections.abc import Sequence

from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index("ix_runs_groups", "runs", ["group_key", "seed", "score", "id"])


def downgrade() -> None:
    op.drop_index("ix_runs_groups", table_name="runs")
