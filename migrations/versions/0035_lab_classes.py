"""Classes of the Lab"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0035"
down_revision: str | None = "0034"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "lab_classes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("teacher_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["teacher_id"], ["users.id"], name=op.f("fk_lab_classes_teacher_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lab_classes")),
        sa.UniqueConstraint("code", name=op.f("uq_lab_classes_code")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_lab_classes_teacher_id"), "lab_classes", ["teacher_id"], unique=False)
    op.create_table(
        "lab_members",
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("learner", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("shares_progress", sa.Boolean(), nullable=False),
        sa.Column("shares_answers", sa.Boolean(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["class_id"], ["lab_classes.id"], name=op.f("fk_lab_members_class_id_lab_classes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("class_id", "learner", name=op.f("pk_lab_members")),
        sa.UniqueConstraint("class_id", "name", name=op.f("uq_lab_members_class_id_name")),
    )
    op.create_index(op.f("ix_lab_members_learner"), "lab_members", ["learner"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_lab_members_learner"), table_name="lab_members")
    op.drop_table("lab_members")
    op.drop_index(op.f("ix_lab_classes_teacher_id"), table_name="lab_classes")
    op.drop_table("lab_classes")
