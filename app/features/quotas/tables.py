"""Quotas: limits of roles and users, and the device time that attempts have used."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, UniqueConstraint
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


class DeviceUsageRow(Base):
    """The device time of an attempt that has ended, in whatever way. It stays when its run is deleted. An attempt has
    one row, so it cannot be charged twice."""

    __tablename__ = "device_usage"
    seen = UNFILTERED
    __table_args__ = (
        UniqueConstraint("run_id", "epoch"),
        Index("ix_device_usage_user", "user_id", "ended_at", "seconds"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    """Who owned the run at the attempt's end."""
    run_id: Mapped[int]
    epoch: Mapped[int]
    ended_at: Mapped[datetime]
    """It decides the month."""
    seconds: Mapped[float]
    """Device-seconds: of several devices, the time times their number; of a group, the run's share."""
