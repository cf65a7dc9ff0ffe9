"""Verdicts of classes"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0041"
down_revision: str | None = "0039"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    op.add_column("lab_class_studies", sa.Column("verdicts_json", json, nullable=False, server_default="[]"))
    with op.batch_alter_table("lab_class_studies") as table:
        table.alter_column("verdicts_json", server_default=None)


def downgrade() -> None:
    op.drop_column("lab_class_studies", "verdicts_json")
