"""Limits, and what users use of them: of all of a user's objects, for any viewer."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.features.quotas.rules import Quota
from app.features.quotas.tables import QuotaLimitRow
from app.store.database.ownership import EVERY_OWNER
from app.store.tables import StudyRow


def limits(session: Session, subjects: Iterable[str]) -> dict[tuple[str, Quota], int | None]:
    """The limits that are set for some subjects; None: unlimited."""
    rows = session.scalars(select(QuotaLimitRow).where(QuotaLimitRow.subject.in_(list(subjects))))
    return {(row.subject, Quota(row.quota)): row.amount for row in rows}


def set_limit(session: Session, subject: str, quota: Quota, amount: int | None) -> None:
    """Set a limit; None: unlimited."""
    session.merge(QuotaLimitRow(subject=subject, quota=quota.value, amount=amount))
    session.flush()


def drop_limit(session: Session, subject: str, quota: Quota) -> None:
    """Leave a limit to the role, or to nothing."""
    session.execute(delete(QuotaLimitRow).where(QuotaLimitRow.subject == subject, QuotaLimitRow.quota == quota.value))


def reserved_by_studies(session: Session, owner_ids: Sequence[int]) -> list[tuple[int, Mapping[str, float]]]:
    """Owner and reservations of the studies whose tuning will queue more runs."""
    query = select(StudyRow.owner_id, StudyRow.reserved_json).where(StudyRow.tuning, StudyRow.owner_id.in_(owner_ids))
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return [(owner_id, seconds) for owner_id, seconds in rows if owner_id is not None]
