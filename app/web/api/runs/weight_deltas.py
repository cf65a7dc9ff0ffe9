"""Weight deltas over REST: how a run's training changed each matrix."""

from fastapi import APIRouter
from pydantic import ConfigDict, computed_field

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.models.weight_delta import UNCHANGED, WeightDeltas, WeightDeltaSummary
from app.store.runs import queries as runs
from app.store.runs import weight_deltas
from app.web.http.dependencies import Reading
from app.web.http.errors import problems

router = APIRouter(tags=["runs"])


class RunWeightDeltasOut(WeightDeltas):
    """A run's analysis."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    run_id: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reason(self) -> str | None:
        """`unchanged` as a sentence."""
        return UNCHANGED[self.unchanged] if self.unchanged else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def summary(self) -> WeightDeltaSummary | None:
        """Medians over the matrices; None if no matrix was analysed."""
        return super().summary


@router.get("/runs/{run_id}/weight-deltas", operation_id="getRunWeightDeltas", responses=problems(404))
def get(session: Reading, run_id: int) -> RunWeightDeltasOut:
    """How a run's training changed each matrix of the base model: energy kept by rank, effective rank, singular values
    of ΔW and of W, norm ratio and intruder dimensions; or why its method has no ΔW. 404 if nothing was analysed."""
    runs.get(session, run_id)
    analysis = weight_deltas.of_runs(session, [run_id]).get(run_id)
    if analysis is None:
        raise NotFound(
            _(
                "Run %(run_id)s has no analysis of its weight updates: it has no result yet, is a trial, is older "
                "than the analysis, or its worker skips it (VEZNA_WEIGHT_DELTA_SECONDS). Its log says whether the "
                "analysis failed.",
                run_id=run_id,
            )
        )
    return RunWeightDeltasOut(run_id=run_id, **dict(analysis))
