"""Parity checks of runs."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.features.shipping.tables import ParityCheckRow
from app.store.database.ownership import note_access_of_run
from app.store.database.rows import get_row


def get(session: Session, check_id: int, run_id: int | None = None) -> ParityCheckRow:
    """A parity check; with `run_id`, of this run. Raises NotFound."""
    missing = _("There is no parity check %(id)s.", id=check_id)
    row = get_row(session, ParityCheckRow, check_id, missing)
    if run_id not in (None, row.run_id):
        raise NotFound(missing)
    note_access_of_run(session, row.run_id)
    return row


def of_run(session: Session, run_id: int) -> list[ParityCheckRow]:
    """The parity checks of a run, the oldest first."""
    query = select(ParityCheckRow).where(ParityCheckRow.run_id == run_id).order_by(ParityCheckRow.id)
    return list(session.scalars(query))


def with_key(session: Session) -> Sequence[ParityCheckRow]:
    """The checks with an API key, locked: those that have not ended."""
    query = select(ParityCheckRow).where(ParityCheckRow.api_key != "").order_by(ParityCheckRow.id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).all()
