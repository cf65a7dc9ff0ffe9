"""imported runs: collections, and runs that have neither a base model nor a dataset of ours"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op
from alembic.util import CommandError

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")
OURS = {"base_model_id": sa.Integer(), "dataset_id": sa.Integer(), "learning_rate": sa.Float()}
"""What only an imported run lacks."""


def upgrade() -> None:
    op.create_table(
        "collections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
        sa.UniqueConstraint("name", name=op.f("uq_collections_name")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for name, kind in OURS.items():
            batch_op.alter_column(name, existing_type=kind, nullable=True)
        batch_op.add_column(sa.Column("collection_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("imported_json", JSON, nullable=True))
        batch_op.add_column(sa.Column("imported_hash", sa.String(length=64), nullable=True))
        batch_op.create_index(batch_op.f("ix_runs_collection_id"), ["collection_id"], unique=False)
        batch_op.create_unique_constraint(
            batch_op.f("uq_runs_collection_id_imported_hash"), ["collection_id", "imported_hash"]
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_runs_collection_id_collections"), "collections", ["collection_id"], ["id"]
        )
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.alter_column("loss", existing_type=sa.Float(), nullable=True)


def downgrade() -> None:
    """Refused once there is an imported run: 0005's code has no place for it."""
    if op.get_bind().execute(sa.text("SELECT 1 FROM runs WHERE collection_id IS NOT NULL LIMIT 1")).first():
        raise CommandError(
            "The database holds imported runs, which the code before 0006 cannot read. Restore the backup instead."
        )
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.alter_column("loss", existing_type=sa.Float(), nullable=False)
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_runs_collection_id_collections"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("uq_runs_collection_id_imported_hash"), type_="unique")
        batch_op.drop_index(batch_op.f("ix_runs_collection_id"))
        batch_op.drop_column("imported_hash")
        batch_op.drop_column("imported_json")
        batch_op.drop_column("collection_id")
        for name, kind in OURS.items():
            batch_op.alter_column(name, existing_type=kind, nullable=False)
    op.drop_table("collections")
