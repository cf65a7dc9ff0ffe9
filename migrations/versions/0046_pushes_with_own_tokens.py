"""Pushes that need the hub token of their user"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0046"
down_revision: str | None = "0045"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("hub_pushes", sa.Column("own_token", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE hub_pushes SET own_token = true WHERE user_id IN (SELECT user_id FROM hub_tokens)")


def downgrade() -> None:
    op.drop_column("hub_pushes", "own_token")
