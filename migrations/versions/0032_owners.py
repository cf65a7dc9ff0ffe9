"""Owners and visibility"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0032"
down_revision: str | None = "0031"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

OWNED = ("studies", "runs", "datasets", "uploads", "base_models", "collections")
ASKED_FOR = ("model_exports", "estimates", "parity_checks")
LISTED = (
    "status", "failure_code", "trial_round", "collection_id", "metric", "method_kind", "arm", "task", "study_id",
    "base_model_id", "dataset_id", "seed", "rank", "learning_rate", "score", "base_score", "validation_score", "loss",
    "train_loss", "peak_bytes", "estimated_bytes", "train_seconds", "wall_seconds", "tokens_per_second",
    "trainable_parameters", "total_parameters", "artifact_bytes", "step",
)  # fmt: skip


def upgrade() -> None:
    for table in OWNED:
        op.add_column(table, sa.Column("owner_id", sa.Integer(), nullable=True))
        op.add_column(table, sa.Column("private_to", sa.Integer(), nullable=True))
        op.create_index(op.f(f"ix_{table}_owner_id"), table, ["owner_id"], unique=False)
    for table in ASKED_FOR:
        op.add_column(table, sa.Column("owner_id", sa.Integer(), nullable=True))
    _index_of_lists("finished_at", "private_to")
    admins = sa.text("SELECT min(id) FROM users WHERE role = 'admin'")
    if (first_admin := op.get_bind().scalar(admins)) is not None:
        for table in (*OWNED, *ASKED_FOR):
            op.get_bind().execute(sa.table(table, sa.column("owner_id")).update().values(owner_id=first_admin))


def downgrade() -> None:
    _index_of_lists("started_at", "finished_at")
    for table in ASKED_FOR:
        op.drop_column(table, "owner_id")
    for table in OWNED:
        op.drop_index(op.f(f"ix_{table}_owner_id"), table_name=table)
        op.drop_column(table, "private_to")
        op.drop_column(table, "owner_id")


def _index_of_lists(*last: str) -> None:
    """PostgreSQL's indexes have 32 columns at most, so `private_to` takes the place of `started_at`."""
    op.drop_index("ix_runs_list", table_name="runs")
    op.create_index("ix_runs_list", "runs", ["group_key", "id", *LISTED, *last], unique=False)
