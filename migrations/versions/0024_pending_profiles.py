"""How a login that waits for a code began, and the profile of single sign-on"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.add_column("pending_logins", sa.Column("by", sa.String(length=40), server_default="password", nullable=False))
    op.add_column("pending_logins", sa.Column("profile", json, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("pending_logins") as batch:
        batch.drop_column("profile")
        batch.drop_column("by")
