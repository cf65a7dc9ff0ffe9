"""weight deltas: what training did to each matrix"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "weight_deltas",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("summary_json", JSON, nullable=True),
        sa.Column("analysis_json", JSON, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_weight_deltas_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_weight_deltas")),
    )


def downgrade() -> None:
    op.drop_table("weight_deltas")
