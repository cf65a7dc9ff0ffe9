"""Ratings of blind comparisons."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.tables import BlindRatingRow


def of_pair(session: Session, first_id: int, second_id: int) -> list[BlindRatingRow]:
    """Every rating of two runs' answers, the oldest first."""
    query = select(BlindRatingRow).where(BlindRatingRow.first_id == first_id, BlindRatingRow.second_id == second_id)
    return list(session.scalars(query.order_by(BlindRatingRow.id)))
