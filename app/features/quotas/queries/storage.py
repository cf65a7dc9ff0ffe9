"""Bytes in the files store by user: what is there, and what live work is predicted to add. Of all of a user's objects,
for any viewer. Checkpoints count while their run is paused; those of other runs go soon."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.store.database.ownership import EVERY_OWNER
from app.store.runs.queries import HERE, LIVE
from app.store.tables import ArtifactRow, DatasetRow, EstimateRow, RunRow, UploadRow


def stored_bytes(session: Session, user_ids: Sequence[int]) -> dict[int, int]:
    """Of uploads, datasets' rows, artifacts and checkpoints of paused runs by their owner."""
    artifacts = select(RunRow.owner_id, func.sum(ArtifactRow.bytes)).join(RunRow, RunRow.id == ArtifactRow.run_id)
    sums = _sums(
        session,
        user_ids,
        (UploadRow.owner_id, select(UploadRow.owner_id, func.sum(UploadRow.bytes))),
        (DatasetRow.owner_id, select(DatasetRow.owner_id, func.sum(DatasetRow.stored_bytes))),
        (RunRow.owner_id, artifacts),
    )
    paused = select(RunRow.owner_id, RunRow.checkpoints_json).where(
        RunRow.status == RunStatus.QUEUED.value, RunRow.paused, RunRow.epoch > 0, RunRow.owner_id.in_(user_ids)
    )
    for owner, checkpoints in session.execute(paused, execution_options=EVERY_OWNER):
        sums[owner or 0] = sums.get(owner or 0, 0) + sum(checkpoint.get("bytes", 0) for checkpoint in checkpoints or ())
    return sums


def expected_bytes(session: Session, user_ids: Sequence[int]) -> dict[int, int]:
    """Of the weights of live runs that save them, where an estimate knows them."""
    weights = func.sum(EstimateRow.result_json["file_bytes"].as_float())
    runs = select(RunRow.owner_id, weights).join(EstimateRow, EstimateRow.id == RunRow.estimate_id)
    return _sums(
        session,
        user_ids,
        (RunRow.owner_id, runs.where(RunRow.status.in_(LIVE), HERE, RunRow.trial_round.is_(None))),
    )


def _sums(session: Session, user_ids: Sequence[int], *parts: tuple[Any, Any]) -> dict[int, int]:
    """The sum of several sums by user."""
    sums: dict[int, int] = {}
    for owner, query in parts:
        rows = session.execute(query.where(owner.in_(user_ids)).group_by(owner).execution_options(**EVERY_OWNER))
        for user_id, size in rows:
            sums[user_id] = sums.get(user_id, 0) + int(size or 0)
    return sums
