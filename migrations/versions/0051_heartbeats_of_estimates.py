"""The heartbeat of an estimate's attempt in place of its beginning"""

from collections.abc import Sequence

from alembic import op

revision: str = "0051"
down_revision: str | None = "0050"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _rename("started_at", "seen_at")


def downgrade() -> None:
    _rename("seen_at", "started_at")


def _rename(old: str, new: str) -> None:
    with op.batch_alter_table("estimates") as table:
        table.alter_column(old, new_column_name=new)
