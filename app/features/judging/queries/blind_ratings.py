"""Ratings of blind comparisons."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.features.judging.tables import BlindRatingRow


def of_pair(session: Session, first_id: int, second_id: int) -> list[BlindRatingRow]:
    """Every rating of two runs' answers, the oldest first."""
    query = select(BlindRatingRow).where(BlindRatingRow.first_id == first_id, BlindRatingRow.second_id == second_id)
    return list(session.scalars(query.order_by(BlindRatingRow.id)))


def of_runs(session: Session, run_ids: Collection[int]) -> list[BlindRatingRow]:
    """Every rating of two of some runs, the oldest first."""
    query = select(BlindRatingRow).where(BlindRatingRow.first_id.in_(run_ids), BlindRatingRow.second_id.in_(run_ids))
    return list(session.scalars(query.order_by(BlindRatingRow.id)))
