"""Weight updates over HTTP: what a run's training did to each matrix."""

from typing import Any, Self

from fastapi import APIRouter
from pydantic import BaseModel

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.methods.base import Unchanged
from app.domain.models.weight_delta import UNCHANGED, MatrixDelta, WeightDeltas, WeightDeltaSummary
from app.store.queries import runs, weight_deltas
from app.web.api.examples import WEIGHT_DELTAS
from app.web.http.dependencies import Reading
from app.web.http.errors import problems

router = APIRouter(tags=["runs"])

ANSWERS: dict[int | str, dict[str, Any]] = {**WEIGHT_DELTAS, **problems(404)}


class RunWeightDeltasOut(BaseModel):
    """A run's analysis."""

    run_id: int
    unchanged: Unchanged | None
    """What trains instead, where the method has no ΔW."""
    reason: str | None
    """`unchanged` as a sentence."""
    summary: WeightDeltaSummary | None
    """Medians over the matrices; None if no matrix was analysed."""
    matrices: list[MatrixDelta]
    late: int
    """Number of matrices beyond the time budget."""
    large: int
    """Number of matrices beyond the memory budget."""
    broken: list[str]
    """A sentence for each matrix that could not be analysed."""
    budget_seconds: float
    seconds: float

    @classmethod
    def of(cls, run_id: int, found: WeightDeltas) -> Self:
        """From the store."""
        reason = UNCHANGED[found.unchanged] if found.unchanged else None
        return cls(run_id=run_id, reason=reason, summary=found.summary, **dict(found))


@router.get("/runs/{run_id}/weight-deltas", operation_id="getRunWeightDeltas", responses=ANSWERS)
def get(session: Reading, run_id: int) -> RunWeightDeltasOut:
    """How a run's training changed each matrix of the base model: energy kept by rank, effective rank, singular values
    of ΔW and of W, norm ratio and intruder dimensions; or why its method has no ΔW. 404 if nothing was analysed."""
    runs.get(session, run_id)
    found = weight_deltas.of_runs(session, [run_id]).get(run_id)
    if found is None:
        raise NotFound(
            _(
                "Run %(run_id)s has no analysis of its weight updates: it has no result yet, is a trial, is older "
                "than the analysis, or its worker skips it (VEZNA_WEIGHT_DELTA_SECONDS). Its log says whether the "
                "analysis failed.",
                run_id=run_id,
            )
        )
    return RunWeightDeltasOut.of(run_id, found)
