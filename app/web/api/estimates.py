"""Estimates over HTTP: will it fit, how one prediction stands, and how far estimates were off."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self, cast

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ValidatorFunctionWrapHandler, WrapValidator

from app.domain.data.previews import Preview, PreviewRequest
from app.domain.messages import _
from app.domain.resources.estimate import EstimateRequest, MapRequest, MemoryMap, ResourceEstimate
from app.domain.resources.memory_fit import Accuracy, ArmFit, EstimateSpec, FitReport, State
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.domain.validation import invalid_field
from app.services.resources import memory_fit
from app.services.resources.device_fit import state_of
from app.store.queries import estimates
from app.store.tables import EstimateRow
from app.web.api.examples import ESTIMATE
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.http.errors import problems
from app.web.http.waiting import Wait, answered, partial

router = APIRouter(prefix="/estimates", tags=["estimates"])

KINDS: dict[str, type[BaseModel]] = {"arms": StudySpec, "method": RunSpec, "methods": EstimateSpec}
"""What a body is, by the field that only it has."""


def _told_apart(value: Any, _handler: ValidatorFunctionWrapHandler) -> Any:
    found = [field for field in KINDS if field in value] if isinstance(value, dict) else []
    if len(found) != 1:
        what = (
            _("The body has more than one of %(fields)s", fields=", ".join(found))
            if found
            else _("The body has none of arms, method and methods")
        )
        raise invalid_field("", what, _("Give arms for a study, method for a run, methods for anything else"))
    return KINDS[found[0]].model_validate(value)


Asked = Annotated[StudySpec | RunSpec | EstimateSpec, WrapValidator(_told_apart)]


class EstimateAnswer(BaseModel):
    """What each arm needs, held against each live worker and the well-known cards."""

    settled: bool
    """Nothing more will come; else ask again."""
    pending: int
    """Predictions that are being worked out, ways out included."""
    estimate_ids: list[int]
    """Of the arms' predictions."""
    arms: tuple[ArmFit, ...]

    @classmethod
    def of(cls, report: FitReport) -> Self:
        """From the service."""
        ids = [need.estimate_id for need in report.needs if need.estimate_id is not None]
        return cls(settled=report.settled, pending=report.pending, estimate_ids=ids, arms=report.arms)


class EstimateOut(BaseModel):
    """One prediction, one preview, or one map, without any device's own needs."""

    id: int
    kind: Literal["run", "preview", "map"]
    state: State
    message: str
    """A sentence, where it failed."""
    request: EstimateRequest | PreviewRequest | MapRequest
    prediction: ResourceEstimate | None
    preview: Preview | None
    map: MemoryMap | None
    created_at: datetime

    @classmethod
    def of(cls, row: EstimateRow) -> Self:
        """From the store."""
        return cls(
            id=row.id,
            kind=cast(Literal["run", "preview", "map"], row.kind),
            state=state_of(row),
            message=row.message,
            request=row.request,
            prediction=row.prediction,
            preview=row.preview,
            map=row.map,
            created_at=row.created_at,
        )


@router.post(
    "",
    operation_id="estimate",
    responses=partial(EstimateAnswer) | problems(422),
)
async def ask(
    response: Response,
    db: Db,
    bell: Bell,
    settings: Config,
    asked: Annotated[Asked, Body(openapi_examples=ESTIMATE)],
    wait: Wait = 0,
) -> EstimateAnswer:
    """Will it fit? Of a study's arms, a run, or methods on a registered model or a pasted config: predicted memory and
    time against each live worker and well-known cards, with ways out where a worker is too small.

    200 once everything is worked out, 202 with what is ready before that. Nothing is queued, no weights are loaded."""
    report = await answered(db, bell, lambda session, b: memory_fit.of_any(session, b, settings, asked), wait)
    response.status_code = 200 if report.settled else 202
    return EstimateAnswer.of(report)


@router.get("/accuracy", operation_id="getEstimateAccuracy")
def accuracy(session: Reading) -> list[Accuracy]:
    """How far estimates were from what was measured, by device, precision and method. Each run is held against an
    estimate that rests on the other runs only."""
    return memory_fit.accuracy(session)


@router.get("/{estimate_id}", operation_id="getEstimate", responses=problems(404))
def get(session: Reading, estimate_id: int) -> EstimateOut:
    """How one prediction stands."""
    return EstimateOut.of(estimates.get(session, estimate_id))
