"""Exports to the tracker while a study goes on, and of studies that are trained elsewhere"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0050"
down_revision: str | None = "0049"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("tracker_exports", sa.Column("live", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("tracker_exports", sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("tracker_exports") as table:
        table.alter_column("live", server_default=None)
    op.create_table(
        "external_tracker_exports",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["collections.id"],
            name=op.f("fk_external_tracker_exports_study_id_collections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_external_tracker_exports")),
    )
    op.create_index(op.f("ix_external_tracker_exports_next_at"), "external_tracker_exports", ["next_at"])


def downgrade() -> None:
    op.drop_table("external_tracker_exports")
    with op.batch_alter_table("tracker_exports") as table:
        table.drop_column("leased_until")
        table.drop_column("live")
