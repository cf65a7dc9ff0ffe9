"""The audit log. Entries are only added: the database itself refuses to change one, and to delete one that is younger
than `LEAST_DAYS`, by triggers (migration 0016). A batch migration of this table on SQLite has to create them again."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.accounts.users import MAX_EMAIL_LENGTH
from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.tables.user import ADDRESS, MAX_AGENT_LENGTH

MAX_SUBJECT_LENGTH = 300


class AuditEventRow(Base):
    """An act. It refers to no other row, so that it outlives all of them."""

    __tablename__ = "audit_events"
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    action: Mapped[str] = mapped_column(String(40), index=True)
    subject: Mapped[str] = mapped_column(String(MAX_SUBJECT_LENGTH), default="")
    """Number or name of what the act is about."""
    via: Mapped[str] = mapped_column(String(20))
    user_id: Mapped[int | None] = mapped_column(default=None)
    name: Mapped[str] = mapped_column(String(MAX_EMAIL_LENGTH), default="", index=True)
    """E-mail address of the user at that time."""
    credential_id: Mapped[int | None] = mapped_column(default=None)
    """Of the session or the token."""
    address: Mapped[str] = mapped_column(ADDRESS, default="")
    user_agent: Mapped[str] = mapped_column(String(MAX_AGENT_LENGTH), default="")
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
