"""The key of the tokens in forms."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.tables import FormKeyRow


def get(session: Session) -> bytes:
    """32 bytes."""
    return session.scalars(select(FormKeyRow.key)).one()
