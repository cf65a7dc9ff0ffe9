"""Steps and pitfalls of the Lab that learners have finished"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.store.database.base import UtcDateTime

revision: str = "0029"
down_revision: str | None = "0028"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "lab_progress",
        sa.Column("learner", sa.String(length=40), nullable=False),
        sa.Column("topic", sa.String(length=20), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("learner", "topic", name=op.f("pk_lab_progress")),
    )


def downgrade() -> None:
    op.drop_table("lab_progress")
