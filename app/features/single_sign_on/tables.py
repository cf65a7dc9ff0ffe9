"""Single sign-on: the identities of users at the provider, and logins that are under way there."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.database.base import Base, now
from app.store.database.seen import UNFILTERED
from app.store.users.tables import SHA256

MAX_ISSUER_LENGTH = 300
MAX_SUBJECT_LENGTH = 255
"""OpenID Connect Core 1.0, section 2."""


class ExternalIdentityRow(Base):
    """A user's identity at a provider."""

    __tablename__ = "external_identities"
    seen = UNFILTERED

    issuer: Mapped[str] = mapped_column(String(MAX_ISSUER_LENGTH), primary_key=True)
    subject: Mapped[str] = mapped_column(String(MAX_SUBJECT_LENGTH), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class OpenIdLoginRow(Base):
    """A login that was sent to the provider. It works once, in the browser that began it."""

    __tablename__ = "openid_logins"
    seen = UNFILTERED

    state_sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    nonce: Mapped[str] = mapped_column(String(64))
    verifier: Mapped[str] = mapped_column(String(64))
    """Of PKCE (RFC 7636)."""
    back: Mapped[str] = mapped_column(String(2000))
    """Path that the login leads to."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
