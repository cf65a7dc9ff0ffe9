"""Collections: results from elsewhere, brought in together."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.tables.owned import Owned


class CollectionRow(Owned, Base):
    """A name under which imported runs lie together."""

    __tablename__ = "collections"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
