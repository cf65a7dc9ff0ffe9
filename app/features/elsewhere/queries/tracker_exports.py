"""Queries of exports to the installation's experiment tracker, of studies and of those whose runs are trained elsewhere
(`external`), which are collections."""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.features.elsewhere.tables import ExternalTrackerExportRow, TrackerExport, TrackerExportRow
from app.store.database.rows import changed
from app.store.tables import CollectionRow, RunRow, StudyRow


def _table(external: bool) -> type[Any]:
    return ExternalTrackerExportRow if external else TrackerExportRow


def of_study(session: Session, study_id: int, *, external: bool = False) -> TrackerExport | None:
    """The export of a study, if it has ended, or was exported, since there is a tracker."""
    table = _table(external)
    row: TrackerExport | None = session.scalars(select(table).where(table.study_id == study_id)).one_or_none()
    return row


def queue(session: Session, study_id: int, at: datetime, *, external: bool, ended: bool = False) -> None:
    """Have a study exported, again if it was before. One that is exported live keeps its time unless it has `ended`."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    table = _table(external)
    values = {"next_at": at, "attempts": 0, "message": "", "live": False}
    new = insert(table).values(study_id=study_id, **values)
    which = None if ended else ~table.live
    session.execute(new.on_conflict_do_update(index_elements=["study_id"], set_=values, where=which))


def not_live(session: Session, heard_since: datetime) -> Sequence[tuple[bool, int]]:
    """Studies that the team sees, that go on, and that are not exported live yet: whether they are external, and their
    number. A run elsewhere goes on if its script has reported since some time."""
    row, outside = TrackerExportRow, ExternalTrackerExportRow
    runs = select(RunRow.study_id).join(StudyRow, StudyRow.id == RunRow.study_id)
    runs = runs.join(row, row.study_id == RunRow.study_id, isouter=True)
    runs = runs.where(StudyRow.private_to.is_(None), RunRow.status == RunStatus.RUNNING.value)
    own = session.scalars(runs.where(or_(row.study_id.is_(None), ~row.live)).distinct())
    scripts = select(RunRow.collection_id).join(CollectionRow, CollectionRow.id == RunRow.collection_id)
    scripts = scripts.join(outside, outside.study_id == RunRow.collection_id, isouter=True)
    scripts = scripts.where(CollectionRow.private_to.is_(None), _goes_on_elsewhere(heard_since))
    others = session.scalars(scripts.where(or_(outside.study_id.is_(None), ~outside.live)).distinct())
    found = [(False, study_id) for study_id in own] + [(True, study_id) for study_id in others]
    return [(external, study_id) for external, study_id in found if study_id is not None]


def leave_live(session: Session, at: datetime) -> None:
    """Have those that were exported live, and that no attempt has now, wait for the end of their study."""
    for table in (_table(False), _table(True)):
        free = or_(table.leased_until.is_(None), table.leased_until <= at)
        live = update(table).where(table.live, table.next_at.is_not(None), free)
        session.execute(live.values(live=False, attempts=0, message="", next_at=at))


def any_running(session: Session, study_id: int, *, external: bool, heard_since: datetime) -> bool:
    """Whether a run of a study is running; one elsewhere, if its script has reported since some time."""
    if external:
        which = and_(RunRow.collection_id == study_id, _goes_on_elsewhere(heard_since))
    else:
        which = and_(RunRow.study_id == study_id, RunRow.status == RunStatus.RUNNING.value)
    return session.scalar(select(RunRow.id).where(which).limit(1)) is not None


def _goes_on_elsewhere(heard_since: datetime) -> ColumnElement[bool]:
    return and_(RunRow.status == RunStatus.RUNNING.value, RunRow.heard_at >= heard_since)


def due(session: Session, at: datetime, until: datetime) -> list[TrackerExport]:
    """Those of studies that the team sees whose time came by `until` and that no attempt has now, at `at`; the longest
    waiting first."""
    found: list[TrackerExport] = []
    for table, study in ((_table(False), StudyRow), (_table(True), CollectionRow)):
        free = or_(table.leased_until.is_(None), table.leased_until <= at)
        query = select(table).join(study, study.id == table.study_id)
        found += session.scalars(query.where(study.private_to.is_(None), table.next_at <= until, free))
    return sorted(found, key=attrgetter("next_at", "study_id"))


def write(session: Session, study_id: int, since: int, *, external: bool, **values: object) -> bool:
    """Change an export if its epoch is still `since`. False if not, or if its study was deleted."""
    table = _table(external)
    query = update(table).where(table.study_id == study_id, table.epoch == since)
    return changed(session, query.values(**values))


def renew(session: Session, study_id: int, since: int, until: datetime, *, external: bool) -> bool:
    """Keep an export whose epoch is still `since`. False if not, or if its study was deleted or made private."""
    table, study = _table(external), CollectionRow if external else StudyRow
    visible = select(study.id).where(study.id == study_id, study.private_to.is_(None)).exists()
    query = update(table).where(table.study_id == study_id, table.epoch == since, visible)
    return changed(session, query.values(leased_until=until))


def held(session: Session, study_id: int, epoch: int, *, external: bool) -> TrackerExport | None:
    """An export whose epoch is still `epoch`, read anew and locked until the transaction ends."""
    table = _table(external)
    query = select(table).where(table.study_id == study_id, table.epoch == epoch).with_for_update()
    row: TrackerExport | None = session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    return row


def failing(session: Session) -> list[TrackerExport]:
    """Those of studies that the team sees whose last attempt failed, the newest study first. No attempt follows if
    there is no `next_at`."""
    found: list[tuple[datetime, TrackerExport]] = []
    for table, study in ((_table(False), StudyRow), (_table(True), CollectionRow)):
        query = select(study.created_at, table).join(study, study.id == table.study_id)
        found += [tuple(row) for row in session.execute(query.where(study.private_to.is_(None), table.message != ""))]
    newest = sorted(found, key=lambda row: (row[0], row[1].study_id), reverse=True)
    return [export for _created, export in newest]
