"""Answers and reviews of the Lab"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.store.database.base import Json, UtcDateTime

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "lab_cards",
        sa.Column("learner", sa.String(length=40), nullable=False),
        sa.Column("question", sa.String(length=60), nullable=False),
        sa.Column("card_json", Json, nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("learner", "question", name=op.f("pk_lab_cards")),
    )
    op.create_index(op.f("ix_lab_cards_learner_due_at"), "lab_cards", ["learner", "due_at"])
    op.create_table(
        "lab_answers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("learner", sa.String(length=40), nullable=False),
        sa.Column("question", sa.String(length=60), nullable=False),
        sa.Column("given_json", Json, nullable=False),
        sa.Column("facts_json", Json, nullable=False),
        sa.Column("right", sa.Boolean(), nullable=True),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("answered_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lab_answers")),
    )
    op.create_index(op.f("ix_lab_answers_learner_question"), "lab_answers", ["learner", "question"])


def downgrade() -> None:
    op.drop_table("lab_answers")
    op.drop_table("lab_cards")
