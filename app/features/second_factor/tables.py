"""Second factors of users: the secret of the authenticator app, recovery codes, and logins that wait for a code."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.database.base import Base, Json, now
from app.store.database.seen import UNFILTERED
from app.store.users.tables import SHA256


class SecondFactorRow(Base):
    """The secret that a user shares with an authenticator app."""

    __tablename__ = "second_factors"
    seen = UNFILTERED

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[str] = mapped_column(String(300))
    """Encrypted (`app.services.ownership.vault`)."""
    confirmed_at: Mapped[datetime | None] = mapped_column(default=None)
    """When the user proved to have it; None: it is not required yet."""
    last_step: Mapped[int] = mapped_column(default=0)
    """Time step (RFC 6238) of the last accepted code: neither it nor an earlier one is accepted again."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class RecoveryCodeRow(Base):
    """A code that works once in place of the app. A used one has no row."""

    __tablename__ = "recovery_codes"
    seen = UNFILTERED

    code_sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)


class PendingLoginRow(Base):
    """A login that waits for a code, after a right password or single sign-on."""

    __tablename__ = "pending_logins"
    seen = UNFILTERED

    secret_sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    by: Mapped[str] = mapped_column(String(40), default="password", server_default="password")
    """How the user logged in so far, for the audit log."""
    profile: Mapped[dict[str, Any] | None] = mapped_column(Json, default=None)
    """After single sign-on: what the provider said of the user."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
