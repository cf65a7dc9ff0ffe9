"""Studies of classes"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0036"
down_revision: str | None = "0035"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "lab_class_studies",
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("spec_json", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("planned_seeds", sa.Integer(), nullable=False),
        sa.Column("next_seed", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["class_id"], ["lab_classes.id"], name=op.f("fk_lab_class_studies_class_id_lab_classes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("class_id", name=op.f("pk_lab_class_studies")),
    )
    op.create_table(
        "lab_class_seeds",
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("learner", sa.String(length=40), nullable=True),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["class_id"],
            ["lab_class_studies.class_id"],
            name=op.f("fk_lab_class_seeds_class_id_lab_class_studies"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_lab_class_seeds_study_id_studies"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("class_id", "seed", name=op.f("pk_lab_class_seeds")),
        sa.UniqueConstraint("class_id", "learner", name=op.f("uq_lab_class_seeds_class_id_learner")),
    )
    op.create_index(op.f("ix_lab_class_seeds_study_id"), "lab_class_seeds", ["study_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_lab_class_seeds_study_id"), table_name="lab_class_seeds")
    op.drop_table("lab_class_seeds")
    op.drop_table("lab_class_studies")
