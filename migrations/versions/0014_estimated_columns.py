"""predicted columns of runs become estimated ones"""

from collections.abc import Sequence

from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COLUMNS = ("bytes", "flops")


def upgrade() -> None:
    for name in COLUMNS:
        op.execute(f"ALTER TABLE runs RENAME COLUMN predicted_{name} TO estimated_{name}")


def downgrade() -> None:
    for name in COLUMNS:
        op.execute(f"ALTER TABLE runs RENAME COLUMN estimated_{name} TO predicted_{name}")
