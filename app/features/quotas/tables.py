"""Limits of roles and users."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.database.base import Base
from app.store.database.seen import UNFILTERED


class QuotaLimitRow(Base):
    """A limit of a role or a user. Without a row a user has the limit of the role, and a role has none."""

    __tablename__ = "quota_limits"
    seen = UNFILTERED

    subject: Mapped[str] = mapped_column(String(40), primary_key=True)
    """`role member` or `user 3` (`app.features.quotas.rules`)."""
    quota: Mapped[str] = mapped_column(String(40), primary_key=True)
    amount: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """None: unlimited."""
