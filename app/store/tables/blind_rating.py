"""Ratings of blind comparisons."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base, now


class BlindRatingRow(Base):
    """Which of two runs' answers to a test item a person prefers; the lower run id is the first."""

    __tablename__ = "blind_ratings"
    __table_args__ = (Index("ix_blind_ratings_pair", "first_id", "second_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    first_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    second_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    item: Mapped[str]
    preferred: Mapped[str] = mapped_column(String(20))
    """`first`, `second` or `tie`."""
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), default=None)
    """The rater; None where Vezna runs for a single user."""
    created_at: Mapped[datetime] = mapped_column(default=now)
