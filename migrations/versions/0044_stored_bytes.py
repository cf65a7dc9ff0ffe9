"""Sizes of datasets' rows and of exports, for the quota of stored bytes"""

import json
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0044"
down_revision: str | None = "0040"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for table in ("datasets", "model_exports"):
        op.add_column(table, sa.Column("stored_bytes", sa.BigInteger(), server_default="0", nullable=False))
    exports = sa.table(
        "model_exports", sa.column("id", sa.Integer), sa.column("files_json", sa.JSON), sa.column("stored_bytes")
    )
    connection = op.get_bind()
    for export_id, files in connection.execute(sa.select(exports.c.id, exports.c.files_json)).all():
        listed = json.loads(files) if isinstance(files, str) else files or []
        size = sum(file["bytes"] for file in listed)
        connection.execute(sa.update(exports).where(exports.c.id == export_id).values(stored_bytes=size))


def downgrade() -> None:
    for table in ("model_exports", "datasets"):
        op.drop_column(table, "stored_bytes")
