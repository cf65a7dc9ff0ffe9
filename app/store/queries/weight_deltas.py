"""Weight updates: a run's analysis, and the summaries of several runs."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.domain.models.weight_delta import RunUpdates, UpdateSummary
from app.store.tables import WeightUpdatesRow


def add(session: Session, run_id: int, found: RunUpdates) -> None:
    """Keep a run's analysis."""
    summary = found.summary.model_dump(mode="json") if found.summary else None
    session.add(WeightUpdatesRow(run_id=run_id, summary_json=summary, found_json=found.model_dump(mode="json")))


def of_runs(session: Session, run_ids: Sequence[int]) -> dict[int, RunUpdates]:
    """Whole analyses by run, of those that have one."""
    query = select(WeightUpdatesRow.run_id, WeightUpdatesRow.found_json).where(WeightUpdatesRow.run_id.in_(run_ids))
    return {run_id: RunUpdates.model_validate(found) for run_id, found in session.execute(query)}


def summaries(session: Session, run_ids: Sequence[int]) -> dict[int, UpdateSummary | None]:
    """Summaries by run, of those that have an analysis; None where it looked at no matrix."""
    query = select(WeightUpdatesRow.run_id, WeightUpdatesRow.summary_json).where(WeightUpdatesRow.run_id.in_(run_ids))
    return {run_id: UpdateSummary.model_validate(found) if found else None for run_id, found in session.execute(query)}


def clear(session: Session, run_id: int) -> None:
    """Forget a run's analysis."""
    session.execute(delete(WeightUpdatesRow).where(WeightUpdatesRow.run_id == run_id))
