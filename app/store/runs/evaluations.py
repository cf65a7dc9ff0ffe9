"""Evaluations and the scores of single items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, defer

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.data.dataset import items_hash
from app.domain.runs.result import Evaluation
from app.store.database.session import IN_BINARY
from app.store.tables import EvaluationRow, RunRow


@dataclass(frozen=True)
class ItemScores:
    """One score per item, [N], and the hash of the items in their order."""

    items_hash: str
    scores: NDArray[np.float64]
    clusters: Clusters | None = None
    """Clusters of items with equal inputs or groups."""


def add(session: Session, run_id: int, evaluation: Evaluation, items: Sequence[str], scores: Sequence[float]) -> None:
    """Store an evaluation, with per-item scores if it has them."""
    values = evaluation.model_dump(exclude={"metrics"})
    row = EvaluationRow(run_id=run_id, score=evaluation.score, metrics_json=dict(evaluation.metrics), **values)
    if items:
        _keep(row, items, scores)
    session.add(row)


def add_imported(
    session: Session,
    run_id: int,
    metric: str,
    score: float,
    item_scores: Mapping[str, float],
    step: int,
    item_groups: Mapping[str, str] | None = None,
) -> None:
    """Store the scores of an imported run's test items, by name and in order; `item_groups`: of items that belong to
    one."""
    row = EvaluationRow(
        run_id=run_id,
        subject="adapted",
        split="test",
        step=step,
        epoch=0.0,
        n=len(item_scores),
        metric=metric,
        score=score,
        metrics_json={metric: score},
    )
    _keep(row, list(item_scores), list(item_scores.values()), item_groups)
    session.add(row)


def _keep(
    row: EvaluationRow, items: Sequence[str], scores: Sequence[float], groups: Mapping[str, str] | None = None
) -> None:
    row.items_hash = items_hash(items)
    row.scores = np.asarray(scores, dtype="<f4").tobytes()
    if clusters := Clusters.of_items(items, groups):
        row.clusters = _stored(clusters)


def _stored(clusters: Clusters) -> bytes:
    return clusters.ids.astype("<i4").tobytes()


def of_run(session: Session, run_id: int) -> list[EvaluationRow]:
    """A run's evaluations in order, without their scores."""
    query = select(EvaluationRow).options(defer(EvaluationRow.scores)).where(EvaluationRow.run_id == run_id)
    return list(session.scalars(query.order_by(EvaluationRow.id)))


def of_runs(session: Session, run_ids: Sequence[int], split: str) -> list[EvaluationRow]:
    """The evaluations of several runs on a split, by run and step, without their scores."""
    query = (
        select(EvaluationRow)
        .options(defer(EvaluationRow.scores))
        .where(EvaluationRow.run_id.in_(run_ids), EvaluationRow.split == split)
        .order_by(EvaluationRow.run_id, EvaluationRow.step)
    )
    return list(session.scalars(query))


def test_scores(session: Session, run_ids: Sequence[int]) -> dict[tuple[int, str], ItemScores]:
    """Scores on the test split by (run, subject)."""
    keys = (EvaluationRow.run_id, EvaluationRow.subject)
    columns = (*keys, EvaluationRow.items_hash, EvaluationRow.scores, EvaluationRow.clusters)
    query = select(*columns).where(EvaluationRow.run_id.in_(run_ids), EvaluationRow.split == "test")
    rows = session.execute(query.execution_options(**IN_BINARY))
    return {
        (run_id, subject): ItemScores(
            items_hash,
            np.frombuffer(scores, dtype="<f4").astype(np.float64),
            Clusters(np.frombuffer(clusters, dtype="<i4").astype(np.int64)) if clusters else None,
        )
        for run_id, subject, items_hash, scores, clusters in rows
        if items_hash is not None and scores is not None
    }


def contradicting(
    session: Session, collection_id: int, items: Sequence[str], groups: Mapping[str, str] | None, besides: int = 0
) -> int | None:
    """The first run of a collection, besides one, that has groups of the same items, if they are others; a run without
    groups contradicts none."""
    alone, own = Clusters.of_items(items), Clusters.of_items(items, groups)
    if own is None or Clusters.same(own, alone):
        return None
    query = select(EvaluationRow.run_id, EvaluationRow.clusters).join(RunRow, RunRow.id == EvaluationRow.run_id)
    query = query.where(RunRow.collection_id == collection_id, RunRow.id != besides, EvaluationRow.split == "test")
    query = query.where(EvaluationRow.items_hash == items_hash(items), EvaluationRow.clusters.is_not(None))
    if alone:
        query = query.where(EvaluationRow.clusters != _stored(alone))
    first = session.execute(query.order_by(EvaluationRow.run_id).limit(1).execution_options(**IN_BINARY)).first()
    return first.run_id if first and first.clusters != _stored(own) else None


def count(session: Session, run_id: int) -> int:
    return session.scalar(select(func.count()).where(EvaluationRow.run_id == run_id)) or 0


def clear(session: Session, run_id: int) -> None:
    session.execute(delete(EvaluationRow).where(EvaluationRow.run_id == run_id))
