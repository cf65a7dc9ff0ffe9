"""tuning: trials among the runs, studies whose learning rates are being looked for, arms that were stopped"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("trial_round", sa.Integer(), nullable=True))
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tuning", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("stopped_json", JSON, nullable=False, server_default="[]"))
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.alter_column("tuning", existing_type=sa.Boolean(), existing_nullable=False, server_default=None)
        batch_op.alter_column("stopped_json", existing_type=JSON, existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_column("stopped_json")
        batch_op.drop_column("tuning")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("trial_round")
