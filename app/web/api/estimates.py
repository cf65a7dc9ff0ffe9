"""Estimates over REST: memory and time of a study, a run or methods; one estimate; and the accuracy of estimates."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Response
from pydantic import AfterValidator, BaseModel, ValidatorFunctionWrapHandler, WrapValidator

from app import feature
from app.domain.data.baselines import Baseline, BaselineRequest
from app.domain.data.previews import Preview, PreviewRequest
from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.resources.calibration import Accuracy
from app.domain.resources.estimate import (
    EstimateRequest,
    EstimateSpec,
    EstimateState,
    MapRequest,
    MemoryMap,
    ResourceEstimate,
)
from app.domain.resources.memory_fit import FitReport
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.domain.validation import invalid_field
from app.services.resources import calibration, memory_fit
from app.store.resources import estimates
from app.store.tables import EstimateRow
from app.web.api.answer import Answer
from app.web.api.examples import ESTIMATE
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.errors import problems
from app.web.http.waiting import Wait, answered, partial
from app.words.data.findings import with_messages

router = APIRouter(prefix="/estimates", tags=["estimates"])

KINDS: dict[str, type[BaseModel]] = {"arms": StudySpec, "method": RunSpec, "methods": EstimateSpec}
"""The kinds of bodies, by the field that only they have."""


def _by_field(value: Any, _handler: ValidatorFunctionWrapHandler) -> Any:
    fields = [field for field in KINDS if field in value] if isinstance(value, dict) else []
    if len(fields) != 1:
        what = (
            _("The body has more than one of %(fields)s", fields=", ".join(fields))
            if fields
            else _("The body has none of arms, method and methods")
        )
        raise invalid_field("", what, _("Give arms for a study, method for a run, methods for anything else"))
    return KINDS[fields[0]].model_validate(value)


AnySpec = Annotated[StudySpec | RunSpec | EstimateSpec, WrapValidator(_by_field)]


class EstimateOut(Answer):
    """One estimate, preview, memory map or baseline, without the device constant."""

    id: int
    kind: Literal["run", "preview", "map", "baseline"]
    state: EstimateState
    message: str
    """Why it failed."""
    request: EstimateRequest | PreviewRequest | MapRequest | BaselineRequest
    estimate: ResourceEstimate | None
    preview: Annotated[Preview | None, AfterValidator(with_messages)]
    map: MemoryMap | None
    baseline: Baseline | None
    created_at: datetime


@router.post("", operation_id="estimate", responses=partial(FitReport) | problems(422))
async def estimate(
    response: Response,
    db: Db,
    bell: Bell,
    settings: Config,
    spec: Annotated[AnySpec, Body(openapi_examples=ESTIMATE)],
    wait: Wait = 0,
) -> FitReport:
    """Memory and time of a study's arms, a run, or methods on a registered model or a pasted config: estimates for each
    live worker and well-known GPU, with memory savings where a worker is too small.

    200 once everything is ready; before, 202 with what is ready. This queues nothing and loads no weights.
    """
    report = await answered(db, bell, lambda session, b: memory_fit.checked_report(session, b, settings, spec), wait)
    response.status_code = 200 if report.settled else 202
    return report


@router.get("/accuracy", operation_id="getEstimateAccuracy")
def accuracy(session: Reading) -> list[Accuracy]:
    """How accurate estimates were, by device, precision, task and method. Each run's estimate is calibrated on the
    other runs only."""
    return calibration.accuracy(session)


@router.get("/{estimate_id}", operation_id="getEstimate", response_model=EstimateOut, responses=problems(404))
def get(session: Reading, estimate_id: int) -> EstimateRow:
    """One estimate."""
    row = estimates.get(session, estimate_id)
    if feature.exists(row.kind):
        raise NotFound(_("Number %(id)s is a computation of the Lab, whose pages show it.", id=estimate_id))
    return row
