"""Studies whose runs are trained elsewhere"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0039"
down_revision: str | None = "0038"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "collections", sa.Column("declared_json", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=True)
    )
    op.add_column("runs", sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "heard_at")
    op.drop_column("collections", "declared_json")
