"""uploads: bytes as they came, and datasets in versions that are made of them"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op
from alembic.util.exc import CommandError

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
OPTIONAL = {"upload_id": sa.Integer(), "mapping_json": JSON, "splitting_json": JSON} | dict.fromkeys(
    ("started_at", "seen_at", "rung_at"), TIME
)
OF_THOSE_THAT_ARE_THERE = {
    "version": (sa.Integer(), "1"),
    "status": (sa.String(length=20), "ready"),
    "message": (sa.String(), ""),
    "progress": (sa.Double(), "1"),
    "findings_json": (JSON, "[]"),
}


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("location", sa.String(length=500), nullable=False),
        sa.Column("config", sa.String(length=120), nullable=False),
        sa.Column("revision", sa.String(length=120), nullable=False),
        sa.Column("split", sa.String(length=120), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("parts_json", JSON, nullable=False),
        sa.Column("options_json", JSON, nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("rows_read", sa.BigInteger(), nullable=False),
        sa.Column("scan_json", JSON, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("seen_at", TIME, nullable=True),
        sa.Column("rung_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_content_hash"), "uploads", ["content_hash"], unique=False)
    op.create_index(op.f("ix_uploads_status"), "uploads", ["status"], unique=False)
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        for name, kind in OPTIONAL.items():
            batch_op.add_column(sa.Column(name, kind, nullable=True))
        for name, (kind, value) in OF_THOSE_THAT_ARE_THERE.items():
            batch_op.add_column(sa.Column(name, kind, nullable=False, server_default=value))
        batch_op.drop_constraint(batch_op.f("uq_datasets_name"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_datasets_name_version"), ["name", "version"])
        batch_op.create_index(batch_op.f("ix_datasets_upload_id"), ["upload_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_datasets_status"), ["status"], unique=False)
        batch_op.create_foreign_key(batch_op.f("fk_datasets_upload_id_uploads"), "uploads", ["upload_id"], ["id"])
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        for name, (kind, _) in OF_THOSE_THAT_ARE_THERE.items():
            batch_op.alter_column(name, existing_type=kind, existing_nullable=False, server_default=None)


def downgrade() -> None:
    """Refused once a name has a second version, or one that is not ready: 0007's code has no place for them."""
    others = sa.text("SELECT 1 FROM datasets WHERE version > 1 OR status <> 'ready' LIMIT 1")
    if op.get_bind().execute(others).first():
        raise CommandError(
            "The database holds versions of datasets, which the code before 0008 cannot read. Delete all but the first "
            "of each name, or restore the backup."
        )
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_datasets_upload_id_uploads"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_datasets_status"))
        batch_op.drop_index(batch_op.f("ix_datasets_upload_id"))
        batch_op.drop_constraint(batch_op.f("uq_datasets_name_version"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_datasets_name"), ["name"])
        for name in (*OF_THOSE_THAT_ARE_THERE, *OPTIONAL):
            batch_op.drop_column(name)
    op.drop_table("uploads")
