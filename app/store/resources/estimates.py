"""Estimates: the backlog, and the claims on estimates."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Update, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app.domain.accounts.ownership import Viewer
from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.resources.estimate import ResourceEstimate
from app.domain.runs.status import RunStatus
from app.store.database.ownership import EVERY_OWNER, viewer_of
from app.store.database.rows import changed, get_row
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow, RunRow

CLAIMS = 0x76657A6E61
"""Number of the advisory lock; any that no other lock has."""


def get(session: Session, estimate_id: int) -> EstimateRow:
    """An estimate whose base model and dataset are visible; of a pasted config, one's own. Raises NotFound."""
    missing = _("There is no estimate %(estimate_id)s.", estimate_id=estimate_id)
    row = get_row(session, EstimateRow, estimate_id, missing)
    viewer = viewer_of(session)
    if viewer is None or viewer.sees_all or row.owner_id == viewer.user_id:
        return row
    asked = row.request_json
    location, file = asked.get("location", ""), asked.get("dataset_file", "")
    models = session.scalars(select(BaseModelRow).where(BaseModelRow.location == location.removeprefix("sample:")))
    known = not location or any(model.pinned == asked.get("fingerprint", "") for model in models)
    if asked.get("config") or not known:
        raise NotFound(missing)
    if file and session.scalar(select(DatasetRow.id).where(DatasetRow.file == file).limit(1)) is None:
        raise NotFound(missing)
    return row


def by_keys(session: Session, keys: Iterable[str]) -> dict[str, EstimateRow]:
    """Those that exist, by key; of a pasted config, those of the session's viewer."""
    viewer = viewer_of(session)
    stored = {key: key for key in keys}
    if viewer is not None:
        stored |= {_own_key(viewer, key): key for key in stored}
    rows = session.scalars(select(EstimateRow).where(EstimateRow.key.in_(sorted(stored))))
    return {stored[row.key]: row for row in rows if viewer is None or not _of_another(row, viewer)}


def insert(session: Session, row: EstimateRow) -> EstimateRow:
    """Add an estimate, or return the same one that another process has just added. That of a pasted config is shared
    with no other user."""
    viewer = viewer_of(session)
    if viewer is not None and row.request_json.get("config"):
        row.key = _own_key(viewer, row.key)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return session.scalars(select(EstimateRow).where(EstimateRow.key == row.key)).one()
    return row


def _of_another(row: EstimateRow, viewer: Viewer) -> bool:
    return bool(row.request_json.get("config")) and row.owner_id != viewer.user_id


def _own_key(viewer: Viewer, key: str) -> str:
    return hashlib.sha256(f"{viewer.user_id} {key}".encode()).hexdigest()


def begin(session: Session, estimate_id: int, at: datetime, silent_since: datetime) -> bool:
    """Claim an estimate, if neither it nor another one is in progress, with a heartbeat after `silent_since`. On
    PostgreSQL claims take turns: neither of two at once would see the other; on SQLite all writes do."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(CLAIMS)))
    other = aliased(EstimateRow)
    busy = exists().where(other.id != estimate_id, other.status == "working", other.seen_at >= silent_since)
    query = update(EstimateRow).where(EstimateRow.id == estimate_id, _waits(silent_since), ~busy)
    return changed(session, query.values(status="working", seen_at=at))


def beat(session: Session, claimed: EstimateRow, at: datetime) -> bool:
    """Write the heartbeat of the current claim."""
    return changed(session, _of_claim(claimed).values(seen_at=at))


def end(session: Session, claimed: EstimateRow, status: str, **values: Any) -> bool:
    """Write an answer, once, and only for the current claim."""
    return changed(session, _of_claim(claimed).values(status=status, **values))


def give_back(session: Session, claimed: EstimateRow) -> bool:
    """Queue an estimate of the current claim again, to be rung for with the next sweep."""
    return changed(session, _of_claim(claimed).values(status="queued", seen_at=None, rung_at=None))


def next_waiting(session: Session, silent_since: datetime, rung_before: datetime | None = None) -> EstimateRow | None:
    """The next estimate to compute: runs, previews, maps, the Lab, then baselines; the newest first, since its page is
    open.

    With `rung_before`, only an estimate whose doorbell was not rung since then.
    """
    query = select(EstimateRow).where(_waits(silent_since))
    if rung_before is not None:
        query = query.where(EstimateRow.rung_at.is_(None) | (EstimateRow.rung_at < rung_before))
    return session.scalars(query.order_by(EstimateRow.kind.desc(), EstimateRow.id.desc()).limit(1)).first()


def queued(session: Session, kind: str) -> int:
    """How many of a kind wait for a worker."""
    waiting = EstimateRow.kind == kind, EstimateRow.status == "queued"
    return session.scalars(select(func.count()).select_from(EstimateRow).where(*waiting)).one()


def fill_in(session: Session, estimate_id: int, estimate: ResourceEstimate) -> None:
    """Copy an estimate to its runs, also to ended ones. The runs are locked in the order of their ids, as at the end of
    a study: otherwise the two could deadlock."""
    of_it = RunRow.estimate_id == estimate_id
    locked = select(RunRow.id).where(of_it).order_by(RunRow.id).with_for_update(key_share=True)
    session.execute(locked, execution_options=EVERY_OWNER)
    query = update(RunRow).where(of_it)
    session.execute(
        query.values(estimated_bytes=estimate.peak_bytes, estimated_flops=float(estimate.train_flops)),
        execution_options={"synchronize_session": False, **EVERY_OWNER},
    )


def queued_runs(session: Session, estimate_id: int) -> list[RunRow]:
    """The runs of an estimate that wait and have an owner, which `fill_in` has locked."""
    query = select(RunRow).where(RunRow.estimate_id == estimate_id, RunRow.status == RunStatus.QUEUED.value)
    return list(session.scalars(query.where(RunRow.owner_id.is_not(None)).order_by(RunRow.id)))


def runs_of(session: Session, estimate_id: int) -> list[RunRow]:
    """The runs of an estimate, of all owners, in the order in which `fill_in` has locked them."""
    query = select(RunRow).where(RunRow.estimate_id == estimate_id, RunRow.collection_id.is_(None)).order_by(RunRow.id)
    return list(session.scalars(query, execution_options=EVERY_OWNER | {"populate_existing": True}))


def forget(session: Session, created_before: datetime) -> None:
    """Delete old estimates without runs. Computed baselines stay: studies are compared with them."""
    used = exists().where(RunRow.estimate_id == EstimateRow.id)
    session.execute(
        delete(EstimateRow).where(
            EstimateRow.created_at < created_before,
            EstimateRow.status != "working",
            (EstimateRow.kind != "baseline") | (EstimateRow.status == "failed"),
            ~used,
        ),
        execution_options={"synchronize_session": False},
    )


def forget_baselines(session: Session, file: str) -> None:
    """Delete the baselines of a dataset's rows, by the name of their file."""
    of_file = EstimateRow.request_json["dataset_file"].as_string() == file
    session.execute(
        delete(EstimateRow).where(EstimateRow.kind == "baseline", of_file),
        execution_options={"synchronize_session": False},
    )


def rung(session: Session, ids: Sequence[int], at: datetime) -> None:
    """Record when doorbells were rung."""
    session.execute(
        update(EstimateRow).where(EstimateRow.id.in_(ids)).values(rung_at=at),
        execution_options={"synchronize_session": False},
    )


def _of_claim(claimed: EstimateRow) -> Update:
    return update(EstimateRow).where(
        EstimateRow.id == claimed.id, EstimateRow.status == "working", EstimateRow.seen_at == claimed.seen_at
    )


def _waits(silent_since: datetime) -> ColumnElement[bool]:
    return (EstimateRow.status == "queued") | ((EstimateRow.status == "working") & (EstimateRow.seen_at < silent_since))
