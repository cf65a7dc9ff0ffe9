"""Queries of studies whose runs are trained elsewhere, and of these runs."""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.store.runs.evaluations import ItemScores, test_scores
from app.store.tables import CollectionRow, EvaluationRow, RunRow
from app.store.workers import clock

COMPARED_WITH_EARLIER = 10
"""Runs of a study whose scores are looked up in earlier studies: scores of many items are large."""
GOING = (RunStatus.RUNNING.value, RunStatus.SUCCEEDED.value)


def studies(session: Session) -> list[CollectionRow]:
    query = select(CollectionRow).where(CollectionRow.declared_json.is_not(None))
    return list(session.scalars(query.order_by(CollectionRow.id.desc())))


def runs_of(session: Session, study_id: int) -> list[RunRow]:
    """The runs of a study in the order in which they were opened."""
    return list(session.scalars(select(RunRow).where(RunRow.collection_id == study_id).order_by(RunRow.id)))


def newest_tries(session: Session, study_id: int) -> list[int]:
    """The newest run of each arm and seed of a study, in the order in which they were opened: at most as many as it
    declared, however often scripts failed."""
    query = select(func.max(RunRow.id)).where(RunRow.collection_id == study_id).group_by(RunRow.arm, RunRow.seed)
    return sorted(session.scalars(query).all())


def tries(session: Session, study_ids: Collection[int]) -> dict[tuple[int, str, int], int]:
    """How many runs scripts have opened of each study, arm and seed."""
    of = RunRow.collection_id, RunRow.arm, RunRow.seed
    query = select(*of, func.count()).join(CollectionRow, CollectionRow.id == RunRow.collection_id)
    query = query.where(RunRow.collection_id.in_(study_ids), CollectionRow.declared_json.is_not(None)).group_by(*of)
    return {(study or 0, arm, seed): count for study, arm, seed, count in session.execute(query)} if study_ids else {}


def earlier_studies(session: Session, study_id: int) -> int:
    """How many studies that were declared before this one have a run with the same score for each of the same test
    items, which is the same run reported again."""
    columns = EvaluationRow.items_hash, EvaluationRow.scores
    ours = select(*columns).join(RunRow, RunRow.id == EvaluationRow.run_id)
    ours = ours.where(RunRow.collection_id == study_id, EvaluationRow.split == "test").order_by(RunRow.id)
    known = list(session.execute(ours.limit(COMPARED_WITH_EARLIER)))
    earlier = (
        select(func.count(RunRow.collection_id.distinct()))
        .join(EvaluationRow, EvaluationRow.run_id == RunRow.id)
        .join(CollectionRow, CollectionRow.id == RunRow.collection_id)
        .where(RunRow.collection_id < study_id, CollectionRow.declared_json.is_not(None), EvaluationRow.split == "test")
        .where(EvaluationRow.items_hash.in_({items for items, _ in known}))
        .where(EvaluationRow.scores.in_([scores for _, scores in known]))
    )
    return session.scalar(earlier) or 0 if known else 0


def with_key(session: Session, study_id: int, key_hash: str) -> RunRow | None:
    """The run of a study that a script opened with a key, read anew and locked."""
    query = select(RunRow).where(RunRow.collection_id == study_id, RunRow.imported_hash == key_hash)
    return session.scalars(query.with_for_update(), execution_options={"populate_existing": True}).first()


def of_arm_and_seed(session: Session, study_id: int, arm: str, seed: int) -> RunRow | None:
    """The run of an arm and a seed that goes on or has succeeded."""
    query = select(RunRow).where(RunRow.collection_id == study_id, RunRow.arm == arm, RunRow.seed == seed)
    return session.scalars(query.where(RunRow.status.in_(GOING)).limit(1)).first()


def scored(session: Session, study_id: int, besides: int) -> tuple[int, ItemScores] | None:
    """The first other run of a study with scores of test items, and these."""
    query = (
        select(EvaluationRow.run_id)
        .join(RunRow, RunRow.id == EvaluationRow.run_id)
        .where(RunRow.collection_id == study_id, RunRow.id != besides, EvaluationRow.split == "test")
        .order_by(EvaluationRow.run_id)
    )
    run_id = session.scalar(query.limit(1))
    known = test_scores(session, [run_id]).get((run_id, "adapted")) if run_id is not None else None
    return (run_id, known) if run_id is not None and known is not None else None  # or it was deleted meanwhile


def evaluated(session: Session, run_id: int) -> set[tuple[str, int]]:
    """Split and step of the evaluations that a run has."""
    query = select(EvaluationRow.split, EvaluationRow.step).where(EvaluationRow.run_id == run_id)
    return {(split, step) for split, step in session.execute(query)}


def is_silent(session: Session, run: RunRow, lasting: timedelta) -> bool:
    """A run goes on elsewhere, and its script has not reported for a time."""
    return run.status == RunStatus.RUNNING and run.heard_at is not None and run.heard_at < clock.now(session) - lasting
