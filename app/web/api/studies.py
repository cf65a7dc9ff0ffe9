"""Studies over HTTP: submit, list, get, weigh, add seeds, cancel."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from app.domain.studies import StudySpec, StudyStatus
from app.services import studies as study_service
from app.services import will_it_fit
from app.services.exports import TABLES, Table
from app.services.studies import StudyProgress
from app.store.queries import studies
from app.web.api.comparison import ComparisonOut
from app.web.api.examples import STUDY
from app.web.api.runs import After, Insist, Limit
from app.web.dependencies import Bell, Config, Db, Reading, Store
from app.web.errors import problems
from app.web.table_file import TYPES, Ending, table_file

router = APIRouter(prefix="/studies", tags=["studies"])


class StudyOut(BaseModel):
    """A study and where it stands."""

    id: int
    name: str
    status: StudyStatus
    spec: StudySpec
    created_at: datetime
    runs: list[int]
    """Its runs' ids, in the order in which it owes them."""
    done: int
    """Runs that have ended."""

    @classmethod
    def of(cls, progress: StudyProgress) -> Self:
        """From the store."""
        study = progress.study
        return cls(
            id=study.id,
            name=study.name,
            status=progress.status,
            spec=study.spec,
            created_at=study.created_at,
            runs=[run.id for run in progress.runs],
            done=progress.done,
        )


class StudyPage(BaseModel):
    """Studies, newest first."""

    items: list[StudyOut]
    has_more: bool
    next_after: int | None


class MoreSeeds(BaseModel):
    """How many new seeds each arm shall get."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"count": 2}})

    count: int = Field(ge=1, le=100)


@router.post("", status_code=202, operation_id="submitStudy", responses=problems(422))
def submit(
    db: Db,
    bell: Bell,
    settings: Config,
    spec: Annotated[StudySpec, Body(openapi_examples=STUDY)],
    insist: Insist = False,
) -> StudyOut:
    """Queue every run that a study owes: arms × seeds. Nothing is queued unless every arm fits the base model, nor if
    one is predicted to need more memory than any live worker has, unless you insist."""
    if not insist:
        will_it_fit.refuse_misfit(db, bell, settings, spec)
    with db.transaction() as session:
        study = study_service.submit(session, bell, spec)
        return StudyOut.of(study_service.progress(session, study.id))


@router.get("", operation_id="listStudies")
def listing(session: Reading, after: After = None, limit: Limit = 50) -> StudyPage:
    """Studies, newest first."""
    page = studies.page(session, after=after, limit=limit)
    items = [StudyOut.of(study_service.progress(session, row.id)) for row in page.rows]
    return StudyPage(items=items, has_more=page.has_more, next_after=page.next_after)


@router.get("/{study_id}", operation_id="getStudy", responses=problems(404))
def get(session: Reading, study_id: int) -> StudyOut:
    """A study."""
    return StudyOut.of(study_service.progress(session, study_id))


@router.get("/{study_id}/comparison", operation_id="compareStudy", responses=problems(404))
def comparison(session: Reading, study_id: int) -> ComparisonOut:
    """A study weighed by the runs that it has so far: every arm's score, cost and verdict."""
    return ComparisonOut.of(study_id, study_service.comparison(session, study_id))


@router.get(
    "/{study_id}/tables/{table}.{ending}",
    operation_id="exportStudy",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {} for kind in TYPES.values()}}, **problems(404, 422)},
)
def table(session: Reading, files: Store, study_id: int, table: Table, ending: Ending) -> StreamingResponse:
    """A study as a file to go on working with: `runs` has a row a run, `items` a row a test item and run, `steps` a row
    an optimizer step and run."""
    found = study_service.comparison(session, study_id)
    return table_file(TABLES[table](session, files, found), ending, f"study-{study_id}-{table}")


@router.post("/{study_id}/seeds", status_code=202, operation_id="addSeeds", responses=problems(404, 422))
def add_seeds(db: Db, bell: Bell, study_id: int, more: MoreSeeds) -> StudyOut:
    """Give every arm of a study more seeds; its verdict follows when they have run."""
    with db.transaction() as session:
        study_service.add_seeds(session, bell, study_id, more.count)
        return StudyOut.of(study_service.progress(session, study_id))


@router.post("/{study_id}/cancel", status_code=202, operation_id="cancelStudy", responses=problems(404, 409))
def cancel(db: Db, study_id: int) -> StudyOut:
    """Cancel every run of a study that has not ended; 409 if all have."""
    with db.transaction() as session:
        study_service.cancel(session, study_id)
        return StudyOut.of(study_service.progress(session, study_id))
