"""Queries of studies whose runs are trained elsewhere, and of these runs."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.store.queries.evaluations import ItemScores, test_scores
from app.store.tables import CollectionRow, EvaluationRow, RunRow

GOING = (RunStatus.RUNNING.value, RunStatus.SUCCEEDED.value)


def studies(session: Session) -> list[CollectionRow]:
    """Every declared study, newest first."""
    query = select(CollectionRow).where(CollectionRow.declared_json.is_not(None))
    return list(session.scalars(query.order_by(CollectionRow.id.desc())))


def runs_of(session: Session, study_id: int) -> list[RunRow]:
    """The runs of a study in the order in which they were opened."""
    return list(session.scalars(select(RunRow).where(RunRow.collection_id == study_id).order_by(RunRow.id)))


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
    return (run_id, test_scores(session, [run_id])[run_id, "adapted"]) if run_id is not None else None


def evaluated(session: Session, run_id: int) -> set[tuple[str, int]]:
    """Split and step of the evaluations that a run has."""
    query = select(EvaluationRow.split, EvaluationRow.step).where(EvaluationRow.run_id == run_id)
    return {(split, step) for split, step in session.execute(query)}
