"""recipes that ran as studies"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "recipe_runs",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("recipe", sa.String(length=60), nullable=False),
        sa.Column("recipe_json", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_recipe_runs_study_id_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_recipe_runs")),
    )
    op.create_index(op.f("ix_recipe_runs_recipe"), "recipe_runs", ["recipe"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_recipe_runs_recipe"), table_name="recipe_runs")
    op.drop_table("recipe_runs")
