"""Users, and what authenticates them: sessions, API tokens, links that work once. And failed logins."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.accounts.policy import Role, Scope
from app.domain.accounts.users import MAX_EMAIL_LENGTH, MAX_NAME_LENGTH
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.seen import UNFILTERED

SHA256 = String(64)
"""In hexadecimal."""
ADDRESS = String(64)
"""An IP address, or what a test client gives instead."""
MAX_AGENT_LENGTH = 300


class UserRow(Base):
    """A user. Users are disabled, never deleted: what they own keeps its owner."""

    __tablename__ = "users"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(MAX_EMAIL_LENGTH), unique=True)
    """In lower case."""
    name: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH), default="")
    role_name: Mapped[str] = mapped_column("role", String(20))
    password_hash: Mapped[str | None] = mapped_column(String(200), default=None)
    """Argon2id with its parameters; None until the user has chosen a password."""
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_login_at: Mapped[datetime | None] = mapped_column(default=None)
    language: Mapped[str | None] = mapped_column(String(8), default=None)
    """Language of the pages; None until the user has chosen one."""

    @property
    def role(self) -> Role:
        return Role(self.role_name)


class LoginSessionRow(Base):
    __tablename__ = "login_sessions"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    secret_sha256: Mapped[str] = mapped_column(SHA256, unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
    """Time of its last request, to within `SEEN_EVERY`."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """However often it is used."""
    address: Mapped[str] = mapped_column(ADDRESS, default="")
    """The client's, at its last request by which `seen_at` was written."""
    user_agent: Mapped[str] = mapped_column(String(MAX_AGENT_LENGTH), default="")


class ApiTokenRow(Base):
    """An API token. A revoked one has no row."""

    __tablename__ = "api_tokens"
    seen = UNFILTERED
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH))
    secret_sha256: Mapped[str] = mapped_column(SHA256, unique=True)
    hint: Mapped[str] = mapped_column(String(20))
    """Its first characters: `vezna_Xa3f`."""
    scope_names: Mapped[list[str]] = mapped_column("scopes")
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    """None: never."""
    last_used_at: Mapped[datetime | None] = mapped_column(default=None)
    """To within `SEEN_EVERY`."""
    last_address: Mapped[str] = mapped_column(ADDRESS, default="")

    @property
    def scopes(self) -> frozenset[Scope]:
        """Those that it was given; its user's role bounds them."""
        return frozenset(map(Scope, self.scope_names))


class OneTimeLinkRow(Base):
    """A link that works once: it creates the first admin, or sets a user's password. A used one has no row."""

    __tablename__ = "one_time_links"
    seen = UNFILTERED

    secret_sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True, default=None)
    """Whose password it sets; None creates the first admin."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class LoginFailuresRow(Base):
    """Failed logins of an account or from an address, within a window of time."""

    __tablename__ = "login_failures"
    seen = UNFILTERED

    subject: Mapped[str] = mapped_column(SHA256, primary_key=True)
    """SHA-256 of the account's e-mail address or of the client's address, whether or not an account has it."""
    failures: Mapped[int]
    began_at: Mapped[datetime] = mapped_column(index=True)


MAX_SUBJECT_LENGTH = 300


class AuditEventRow(Base):
    """An act. It refers to no other row, so that it outlives all of them."""

    __tablename__ = "audit_events"
    seen = UNFILTERED
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
    """Id of the session or the token."""
    address: Mapped[str] = mapped_column(ADDRESS, default="")
    user_agent: Mapped[str] = mapped_column(String(MAX_AGENT_LENGTH), default="")
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
