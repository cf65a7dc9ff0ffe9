"""Changes of owner and visibility, and what uses a row, visible or not."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, case, inspect, or_, select, update
from sqlalchemy.orm import Session

from app.store.database.owned import Asked, Owned, Transferred
from app.store.database.ownership import EVERY_OWNER, kinds
from app.store.database.rows import affected
from app.store.runs.tables.files import RunFiles
from app.store.tables import BaseModelRow, CollectionRow, DatasetRow, RunRow, StudyRow, UploadRow

OWNED: tuple[type[Any], ...] = (StudyRow, RunRow, DatasetRow, UploadRow, BaseModelRow, CollectionRow)
"""Tables with an owner, in the order in which a transaction locks their rows: a study before its runs."""


def hold(session: Session, rows: Iterable[Owned | None], *, change: bool = False) -> None:
    """Read rows anew and lock them until the transaction ends: to change their owner or visibility, otherwise against
    such a change. SQLite's writes take turns anyway."""
    ids: dict[type[Any], set[int]] = {}
    for row in rows:
        if row is not None:
            ids.setdefault(type(row), set()).add(inspect(row).identity[0])
    for table, chosen in ids.items():
        query = select(table).where(table.id.in_(chosen)).order_by(table.id)
        query = query.with_for_update(read=not change, key_share=not change)
        session.scalars(query, execution_options={"populate_existing": True, **EVERY_OWNER}).all()


def users_hidden_from(session: Session, rows: Sequence[Owned], private_to: int) -> bool:
    """Whether studies or runs that are not private to a user use datasets or base models."""
    data = [row.id for row in rows if isinstance(row, DatasetRow)]
    models = [row.id for row in rows if isinstance(row, BaseModelRow)]
    names = {row.name for row in rows if isinstance(row, DatasetRow)}
    for table in (RunRow, StudyRow):
        general = table.spec_json["general_text"].as_string()
        texts = [(general == name) | general.startswith(f"{name}@", autoescape=True) for name in names]
        uses = or_(table.dataset_id.in_(data), table.base_model_id.in_(models), *texts)
        query = select(table.id).where(uses, table.private_to.is_distinct_from(private_to)).limit(1)
        if session.scalar(query.execution_options(**EVERY_OWNER)) is not None:
            return True
    return False


def give_runs(session: Session, which: ColumnElement[bool], owner_id: int | None, private_to: int | None) -> None:
    """Change the owner and the visibility of runs. Files made of them are charged to the new owner as they were to the
    old one, and those that others asked for too once these no longer see them."""
    for table in kinds(RunFiles):
        asked = table.run_id.in_(select(RunRow.id).where(which))
        if private_to is None:
            mine = RunRow.owner_id.is_not_distinct_from(table.owner_id)
            asked = table.run_id.in_(select(RunRow.id).where(which, mine).correlate(table))
        affected(session, update(table).where(asked).values(owner_id=owner_id))
    affected(session, update(RunRow).where(which).values(owner_id=owner_id, private_to=private_to))


def adopt(session: Session, owner_id: int) -> None:
    """Give every row without an owner to a user."""
    for table in (*OWNED, *kinds(Asked)):
        query = update(table).where(table.owner_id.is_(None)).values(owner_id=owner_id)
        affected(session, query.execution_options(**EVERY_OWNER))


def transfer_all(session: Session, owner_id: int, to_id: int) -> int:
    """Give every row of a user to another; what was private is private to the other. Returns the number of objects."""
    changed = 0
    for table in OWNED:
        values = {"owner_id": to_id, "private_to": case((table.private_to.is_not(None), to_id))}
        query = update(table).where(table.owner_id == owner_id).values(**values)
        changed += affected(session, query.execution_options(**EVERY_OWNER))
    for table in kinds(Transferred):
        query = update(table).where(getattr(table, table.holder) == owner_id).values({table.holder: to_id})
        affected(session, query.execution_options(**EVERY_OWNER))
    return changed
