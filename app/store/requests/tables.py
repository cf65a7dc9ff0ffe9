"""Requests that were accepted under an `Idempotency-Key`."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.database.base import Base, now
from app.store.database.seen import UNFILTERED


class IdempotencyKeyRow(Base):
    """The answer to a request with a key, written in the transaction that created what the answer names."""

    __tablename__ = "idempotency_keys"
    seen = UNFILTERED

    owner: Mapped[str] = mapped_column(String(120), primary_key=True)
    """The user's name; empty without login."""
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the request: method, address and body."""
    status: Mapped[int]
    """Status of the answer."""
    location: Mapped[str] = mapped_column(default="")
    """Where a redirect leads."""
    body: Mapped[str] = mapped_column(default="")
    """JSON, encrypted if it has a secret; empty for a redirect."""
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class FormKeyRow(Base):
    """32 random bytes that all web processes of an installation share. The migration that creates the table writes its
    only row."""

    __tablename__ = "form_keys"
    seen = UNFILTERED

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[bytes]
