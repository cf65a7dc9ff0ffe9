"""Addresses of webhooks, encrypted, and their hosts

A migration has no key, so an address that was stored in plain is removed: its webhook is disabled and has to be added
again.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

AGAIN = "Its address was stored in plain and is removed. Remove the webhook and add it again."


def upgrade() -> None:
    with op.batch_alter_table("webhooks", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.add_column(sa.Column("host", sa.String(length=2000), nullable=True))
        batch.alter_column("url", existing_type=sa.String(length=2000), type_=sa.String(), existing_nullable=False)
    connection = op.get_bind()
    for webhook_id, url in connection.execute(sa.text("SELECT id, url FROM webhooks")).all():
        values = {"id": webhook_id, "host": urlsplit(url).netloc.rpartition("@")[2], "why": AGAIN}
        connection.execute(
            sa.text("UPDATE webhooks SET host = :host, url = '', disabled = :why WHERE id = :id"), values
        )
    with op.batch_alter_table("webhooks", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("host", existing_type=sa.String(length=2000), nullable=False)


def downgrade() -> None:
    op.execute(sa.text("UPDATE webhooks SET url = 'https://' || host, disabled = 'Its address is encrypted.'"))
    with op.batch_alter_table("webhooks", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.drop_column("host")
        batch.alter_column("url", existing_type=sa.String(), type_=sa.String(length=2000), existing_nullable=False)
