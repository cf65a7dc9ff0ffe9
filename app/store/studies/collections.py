"""Queries of collections and of the imported runs in them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from app.domain.messages import _
from app.store.database.owned import inherited
from app.store.database.ownership import EVERY_OWNER
from app.store.database.rows import get_row
from app.store.tables import CollectionRow, RunRow

MOST_VALUES = 5000
"""Values in one query; SQLite and PostgreSQL accept some ten thousand."""


@dataclass(frozen=True)
class CollectionSummary:
    id: int
    name: str
    runs: int
    created_at: datetime


def by_name(session: Session, name: str, *, lock: bool = False) -> CollectionRow | None:
    """A collection by name; `lock` holds it until the transaction ends."""
    query = select(CollectionRow).where(CollectionRow.name == name)
    return session.scalars(query.with_for_update() if lock else query).first()


def get(session: Session, collection_id: int, *, lock: bool = False) -> CollectionRow:
    """A collection, locked until the transaction ends if it is to be changed. Raises NotFound."""
    missing = _("There is no collection %(collection_id)s.", collection_id=collection_id)
    return get_row(session, CollectionRow, collection_id, missing, lock=lock)


def everyone(session: Session) -> list[CollectionSummary]:
    """Every collection, newest first, with the number of runs."""
    query = (
        select(CollectionRow, func.count(RunRow.id))
        .join(RunRow, RunRow.collection_id == CollectionRow.id, isouter=True)
        .group_by(CollectionRow.id)
        .order_by(CollectionRow.id.desc())
    )
    return [CollectionSummary(row.id, row.name, runs, row.created_at) for row, runs in session.execute(query)]


def count_runs(session: Session) -> int:
    """How many runs are in any collection, visible or not."""
    query = select(func.count()).where(RunRow.collection_id.is_not(None))
    return session.scalar(query.execution_options(**EVERY_OWNER)) or 0


def named(session: Session, run: RunRow) -> str:
    """The name of an imported run's collection."""
    return get(session, run.collection_id).name if run.collection_id is not None else ""


def names(session: Session, collection_ids: Collection[int]) -> dict[int, str]:
    query = select(CollectionRow.id, CollectionRow.name).where(CollectionRow.id.in_(collection_ids))
    return {i: name for i, name in session.execute(query)}


def known(session: Session, collection_id: int, hashes: Sequence[str]) -> dict[str, int]:
    """The runs of results that the collection already has, by hash."""
    ids: dict[str, int] = {}
    for begin in range(0, len(hashes), MOST_VALUES):
        query = select(RunRow.imported_hash, RunRow.id).where(
            RunRow.collection_id == collection_id, RunRow.imported_hash.in_(hashes[begin : begin + MOST_VALUES])
        )
        ids |= {content: run for content, run in session.execute(query) if content is not None}
    return ids


def add(session: Session, collection: CollectionRow, runs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Insert runs into a collection, with its owner and visibility, and return their ids by `imported_hash`. Every run
    has the same columns.

    One statement inserts many rows, bypassing the ORM: other writers wait for it, and inserting row by row takes
    four times as long.
    """
    if not runs:
        return {}
    belongs = {"collection_id": collection.id, **inherited(collection)}
    query = insert(RunRow).returning(RunRow.imported_hash, RunRow.id)
    rows = session.connection().execute(query, [{**run, **belongs} for run in runs])
    return {content: run_id for content, run_id in rows if content is not None}


def run_ids(session: Session, collection_id: int, *, limit: int) -> list[int]:
    """The runs of a collection in the order of import."""
    query = select(RunRow.id).where(RunRow.collection_id == collection_id).order_by(RunRow.id).limit(limit)
    return list(session.scalars(query))
