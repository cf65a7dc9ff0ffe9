"""Studies whose runs are trained elsewhere, over REST: declare a study, open its runs, report, end. docs/elsewhere.md
describes the whole."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Visibility
from app.domain.imports.declared import ExternalStudySpec
from app.domain.imports.reports import ReportBatch, RunEnd, RunOpening
from app.domain.runs.status import RunStatus
from app.features.elsewhere.api.examples import END_RUN, EXTERNAL_STUDY, OPEN_RUN, REPORT
from app.features.elsewhere.api.tracker_export import exported
from app.features.elsewhere.services import reports as external_reports
from app.features.elsewhere.services import studies as service
from app.features.elsewhere.services.imports import MOST_IMPORT_BYTES
from app.features.elsewhere.services.studies import RunState
from app.services.runs import reported
from app.store.studies import external
from app.store.tables import CollectionRow, RunRow
from app.web.api.answer import Answer
from app.web.api.studies.tracker_export import TrackerExportOut
from app.web.http.dependencies import Db, NewDb, Reading
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(tags=["trained elsewhere"])


class ExternalRunOut(Answer):
    """A run of such a study, in short."""

    id: int
    arm: str
    seed: int
    status: RunStatus
    step: int
    total_steps: int | None
    score: float | None
    heard_at: datetime | None
    """When its script last reported."""
    no_news: bool
    """It goes on, and its script has not reported for a day."""

    @classmethod
    def of(cls, session: Session, run: RunRow) -> Self:
        return cls.from_object(run, no_news=reported.is_silent(session, run))


class ExternalStudyOut(Answer):
    """A study whose runs are trained elsewhere. GET /api/v1/compare?collection={id} has its verdicts."""

    id: int
    name: str
    spec: ExternalStudySpec
    reference: str
    """Label of the reference arm."""
    created_at: datetime
    owner_id: int | None
    """The user to whom it belongs; null without login."""
    visibility: Visibility
    """`private`: its owner and admins see it; `team`: all users."""
    runs: list[ExternalRunOut]
    """In the order in which scripts opened them."""
    tracker_export: TrackerExportOut | None
    """Null if it has neither ended nor been exported since the installation has a tracker."""

    @classmethod
    def of(cls, session: Session, study: CollectionRow, spec: ExternalStudySpec) -> Self:
        runs = [ExternalRunOut.of(session, run) for run in external.runs_of(session, study.id)]
        export = exported(session, study)
        return cls.from_object(study, spec=spec, reference=spec.reference_arm, runs=runs, tracker_export=export)


@router.post("/external-studies", status_code=201, operation_id="declareExternalStudy", responses=problems(409, 422))
def declare(
    db: NewDb, once: OnceByHeader, spec: Annotated[ExternalStudySpec, Body(openapi_examples=EXTERNAL_STUDY)]
) -> ExternalStudyOut:
    """Declare a study whose runs are trained elsewhere: arms, reference, seeds, metric and margin, before any run.
    Scripts open its runs and report them."""
    with db.transaction() as session:
        return once.keep(session, ExternalStudyOut.of(session, service.declare(session, spec), spec))


@router.get("/external-studies", operation_id="listExternalStudies")
def listing(session: Reading) -> list[ExternalStudyOut]:
    """Every study whose runs are trained elsewhere, newest first."""
    rows = [(row, row.declared) for row in external.studies(session)]
    return [ExternalStudyOut.of(session, row, spec) for row, spec in rows if spec is not None]


@router.get("/external-studies/{collection_id}", operation_id="getExternalStudy", responses=problems(404))
def get(session: Reading, collection_id: int) -> ExternalStudyOut:
    """A study whose runs are trained elsewhere."""
    return ExternalStudyOut.of(session, *service.declared(session, collection_id))


@router.post(
    "/external-studies/{collection_id}/runs",
    operation_id="openExternalRun",
    responses=problems(404, 409, 422),
)
def open_run(db: Db, collection_id: int, opening: Annotated[RunOpening, Body(openapi_examples=OPEN_RUN)]) -> RunState:
    """Open the run of an arm and a seed, or find it again by its key. Opening a run that goes on takes it over: reports
    of the script that had it are refused from then on."""
    with db.transaction() as session:
        return service.open_run(session, collection_id, opening)


@router.post("/runs/{run_id}/reports", operation_id="reportExternalRun", responses=problems(404, 409, 422))
def report(db: Db, run_id: int, batch: Annotated[ReportBatch, Body(openapi_examples=REPORT)]) -> RunState:
    """Report steps and evaluations of a run that is trained elsewhere, in batches that are numbered from 1. The same
    batch again changes nothing; 409 for one that leaves a gap, or if another script has taken the run over, or after
    its end. `cancel` says that the run should end."""
    with db.transaction() as session:
        return external_reports.report(session, run_id, batch)


@router.post(
    "/runs/{run_id}/end",
    operation_id="endExternalRun",
    responses=problems(404, 409, 422),
    max_body_size=MOST_IMPORT_BYTES,
)
def end(db: Db, run_id: int, ending: Annotated[RunEnd, Body(openapi_examples=END_RUN)]) -> RunState:
    """End a run that is trained elsewhere. One that succeeded needs a score for each test item, the same items as in
    the other runs of its study. The same end again changes nothing."""
    with db.transaction() as session:
        return external_reports.end(session, run_id, ending)
