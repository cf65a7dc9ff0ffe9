"""Weight deltas (ΔW): the analysis of a run, and the summaries of several."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.domain.models.weight_delta import WeightDeltas, WeightDeltaSummary
from app.store.tables import WeightDeltasRow


def add(session: Session, run_id: int, analysis: WeightDeltas) -> None:
    summary = analysis.summary.model_dump(mode="json") if analysis.summary else None
    session.add(WeightDeltasRow(run_id=run_id, summary_json=summary, analysis_json=analysis.model_dump(mode="json")))


def of_runs(session: Session, run_ids: Sequence[int]) -> dict[int, WeightDeltas]:
    """Analyses by run id; runs without one are missing."""
    query = select(WeightDeltasRow.run_id, WeightDeltasRow.analysis_json).where(WeightDeltasRow.run_id.in_(run_ids))
    return {run_id: WeightDeltas.model_validate(analysis) for run_id, analysis in session.execute(query)}


def summaries(session: Session, run_ids: Sequence[int]) -> dict[int, WeightDeltaSummary | None]:
    """Summaries by run id; runs without an analysis are missing, None where no matrix was analysed."""
    query = select(WeightDeltasRow.run_id, WeightDeltasRow.summary_json).where(WeightDeltasRow.run_id.in_(run_ids))
    return {
        run_id: WeightDeltaSummary.model_validate(summary) if summary else None
        for run_id, summary in session.execute(query)
    }


def clear(session: Session, run_id: int) -> None:
    session.execute(delete(WeightDeltasRow).where(WeightDeltasRow.run_id == run_id))
