"""Ratings of blind comparisons"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0031"
down_revision: str | None = "0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "blind_ratings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("first_id", sa.Integer(), nullable=False),
        sa.Column("second_id", sa.Integer(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("preferred", sa.String(length=20), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["first_id"], ["runs.id"], name=op.f("fk_blind_ratings_first_id_runs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["second_id"], ["runs.id"], name=op.f("fk_blind_ratings_second_id_runs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_blind_ratings_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blind_ratings")),
    )
    op.create_index("ix_blind_ratings_pair", "blind_ratings", ["first_id", "second_id"], unique=False)
    op.create_index(op.f("ix_blind_ratings_second_id"), "blind_ratings", ["second_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_blind_ratings_second_id"), table_name="blind_ratings")
    op.drop_index("ix_blind_ratings_pair", table_name="blind_ratings")
    op.drop_table("blind_ratings")
