"""Studies over REST: submit, list, get, compare, add seeds and arms, stop an arm, cancel."""

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Visibility
from app.domain.runs.listing.annotations import Changes
from app.domain.runs.listing.queue import Priority
from app.domain.studies.arms import ArmSpec
from app.domain.studies.plan import StudyPlan
from app.domain.studies.spec import StudySpec, StudyStatus
from app.services.models.compatibility import Compatible
from app.services.ownership import deletion
from app.services.ownership.deletion import Deletion
from app.services.runs import annotations, archive, submission
from app.services.studies import learning
from app.services.studies import studies as study_service
from app.services.studies.exports import TABLES, Table
from app.services.studies.plan import plan_of, planned
from app.store.studies import queries as studies
from app.store.studies import tags
from app.web.api.answer import Answer
from app.web.api.examples import ARM, STUDY
from app.web.api.runs.listing import After, Limit
from app.web.api.runs.runs import Insist
from app.web.api.studies.comparison import StudyComparisonOut
from app.web.api.studies.tracker_export import TrackerExportOut
from app.web.http.dependencies import Bell, Config, Db, NewDb, Reading, Store
from app.web.http.errors import problems
from app.web.http.files.table_file import TYPES, Ending, table_file
from app.web.http.idempotency import OnceByHeader
from app.web.site import comparison_fields, study_fields
from app.words.i18n import localized
from app.words.studies.power import power_warning

router = APIRouter(prefix="/studies", tags=["studies"])


class StudyOut(Answer):
    """A study and its status."""

    id: int
    name: str
    status: StudyStatus
    spec: StudySpec
    created_at: datetime
    owner_id: int | None
    """The user to whom it belongs; null without login."""
    visibility: Visibility
    """`private`: its owner and admins see it; `team`: all users."""
    runs: list[int]
    """Ids of the runs that count in the verdict, in the order in which they were queued."""
    trials: list[int]
    """Ids of the runs that try learning rates."""
    done: int
    """Runs that have ended, trials included."""
    stopped: list[str]
    note: str
    tags: list[str]
    archived: bool
    paused: bool
    """Its waiting runs and those that it queues later are not started before they are resumed."""
    priority: Priority
    """Priority of the runs that it queues later: GET /api/v1/queue."""
    recipe: str | None
    """Id of the recipe that it tests: GET /api/v1/recipes/{id}/card?study={id}."""
    tracker_export: TrackerExportOut | None
    """Null if it has neither ended nor been exported since the installation has a tracker."""

    @classmethod
    def of(cls, session: Session, study_id: int, **derived: Any) -> Self:
        progress = study_service.progress(session, study_id)
        return cls.from_object(
            progress.study,
            status=progress.status,
            runs=[run.id for run in progress.runs if run.trial_round is None],
            trials=[run.id for run in progress.runs if run.trial_round is not None],
            done=progress.done,
            stopped=progress.study.stopped_json,
            tags=tags.of_studies(session, [study_id]).get(study_id, []),
            **{"recipe": None, "tracker_export": None} | study_fields(session, progress.study) | derived,
        )


class SubmittedStudy(StudyOut):
    """A study that was accepted, and its plan."""

    plan: StudyPlan
    warning: str
    """If the study probably cannot decide: why, and what would; otherwise empty."""


class PlanOut(BaseModel):
    """The plan of a study that is not queued."""

    plan: StudyPlan
    warning: str
    """If the study probably cannot decide: why, and what would; otherwise empty."""
    refusal: str
    """If by the estimates an arm needs more memory than any live worker has; otherwise empty."""
    settled: bool
    """Every estimate has ended."""


class StudyPage(BaseModel):
    """Studies, newest first."""

    items: list[StudyOut]
    has_more: bool
    next_after: int | None


class MoreSeeds(BaseModel):
    """The number of new seeds per arm."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"count": 2}})

    count: int = Field(ge=1, le=100)


@router.post("", status_code=202, operation_id="submitStudy", responses=problems(409, 422))
def submit(
    db: NewDb,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    spec: Annotated[StudySpec, Body(openapi_examples=STUDY)],
    insist: Insist = False,
) -> SubmittedStudy:
    """Queue all runs of a study: arms × seeds, or with `tuning` first the trials of every arm. Nothing is queued
    unless every arm is compatible with the base model, nor, unless you insist, if by the estimates an arm needs more
    memory than any live worker has, or a tuning budget of seconds fits no two trials of an arm. `plan` says what the
    study takes, and whether it can decide."""

    def accept(session: Session, compatible: Compatible) -> SubmittedStudy:
        plan = plan_of(session, spec, compatible)
        study = study_service.submit(session, bell, spec, compatible)
        answer = SubmittedStudy.of(session, study.id, plan=plan, warning=power_warning(plan))
        return once.keep(session, answer)

    return submission.submit(db, bell, settings, spec, accept, insist=insist)


@router.post("/plan", operation_id="planStudy", responses=problems(422))
def plan(
    db: Db, bell: Bell, settings: Config, session: Reading, spec: Annotated[StudySpec, Body(openapi_examples=STUDY)]
) -> PlanOut:
    """Plan a study without queueing it: its runs, its train time, and what it can detect. The estimates that it rests
    on are requested; ask again until the times are there."""
    found = planned(db, bell, settings, session, spec)
    refusal = found.memory.refusal(study=True)
    return PlanOut(
        plan=found.plan,
        warning=power_warning(found.plan),
        refusal=localized(refusal.message) if refusal else "",
        settled=found.memory.settled,
    )


@router.get("", operation_id="listStudies")
def listing(session: Reading, after: After = None, limit: Limit = 50, archived: bool = False) -> StudyPage:
    """List studies, newest first: with `archived` the archived ones, otherwise the others."""
    page = studies.page(session, archived=archived, after=after, limit=limit)
    items = [StudyOut.of(session, row.id) for row in page.rows]
    return StudyPage(items=items, has_more=page.has_more, next_after=page.next_after)


@router.get("/{study_id}", operation_id="getStudy", responses=problems(404))
def get(session: Reading, study_id: int) -> StudyOut:
    """A study."""
    return StudyOut.of(session, study_id)


@router.patch("/{study_id}", operation_id="changeStudy", responses=problems(404, 409, 422))
def change(db: Db, study_id: int, changes: Changes) -> StudyOut:
    """Change a study's note or tags, archive or unarchive it with its runs; omitted fields stay as they are. Its runs
    have its tags too. 409 for archiving a study with runs that are queued or running."""
    with db.transaction() as session:
        if changes.archived is not None:
            archive.archive_study(session, study_id, changes.archived)
        annotations.annotate_study(session, study_id, changes)
        return StudyOut.of(session, study_id)


@router.get("/{study_id}/deletion", operation_id="previewStudyDeletion", responses=problems(404))
def preview_deletion(session: Reading, study_id: int) -> Deletion:
    """What deleting a study would remove, or why it is refused."""
    return deletion.of_study(session, study_id)


@router.delete("/{study_id}", status_code=204, operation_id="deleteStudy", responses=problems(404, 409))
def delete(db: Db, files: Store, study_id: int) -> None:
    """Permanently delete a study with its runs and everything that belongs to them; 409 while a run is queued or
    running."""
    with db.transaction() as session:
        deletion.delete_study(session, files, study_id)


@router.get("/{study_id}/comparison", operation_id="compareStudy", responses=problems(404))
def comparison(session: Reading, study_id: int) -> StudyComparisonOut:
    """Compare a study's arms by its runs so far: every arm's score, cost and verdict."""
    study = study_service.comparison(session, study_id)
    causes = learning.causes_of(session, study_id, study)
    return StudyComparisonOut.of(study_id, study, causes, comparison_fields(session, study_id))


@router.get(
    "/{study_id}/tables/{table}.{ending}",
    operation_id="exportStudy",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {} for kind in TYPES.values()}}, **problems(404, 422)},
)
def table(session: Reading, files: Store, study_id: int, table: Table, ending: Ending) -> StreamingResponse:
    """A table of a study for further analysis: `runs` has one row per run, `items` one per test item and run, `steps`
    one per optimizer step and run."""
    parts = TABLES[table](session, files, study_service.comparison(session, study_id))
    return table_file(parts, ending, f"study-{study_id}-{table}")


@router.post("/{study_id}/seeds", status_code=202, operation_id="addSeeds", responses=problems(404, 409, 422))
def add_seeds(db: Db, bell: Bell, once: OnceByHeader, study_id: int, more: MoreSeeds) -> StudyOut:
    """Add seeds to every arm of a study; the verdict includes them once they have run."""
    with db.transaction() as session:
        study_service.add_seeds(session, bell, study_id, more.count)
        return once.keep(session, StudyOut.of(session, study_id))


@router.post("/{study_id}/arms", status_code=202, operation_id="addArm", responses=problems(404, 409, 422))
def more_arms(
    db: Db,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    study_id: int,
    arm: Annotated[ArmSpec, Body(openapi_examples=ARM)],
    insist: Insist = False,
) -> StudyOut:
    """Add an arm to a study, finished or not. It gets the study's seeds and, with tuning, its own trials first. The
    reference does not change."""

    def then(session: Session) -> StudyOut:
        return once.keep(session, StudyOut.of(session, study_id))

    return submission.add_arm(db, bell, settings, study_id, arm, then, insist=insist)


@router.post(
    "/{study_id}/arms/{title:path}/stop", status_code=202, operation_id="stopArm", responses=problems(404, 409)
)
def stop_arm(db: Db, bell: Bell, study_id: int, title: str) -> StudyOut:
    """Cancel the remaining runs of an arm; the other arms continue and its results stay. 409 if no run remains."""
    with db.transaction() as session:
        study_service.stop_arm(session, bell, study_id, title)
        return StudyOut.of(session, study_id)


@router.post("/{study_id}/cancel", status_code=202, operation_id="cancelStudy", responses=problems(404, 409, 422))
def cancel(db: Db, bell: Bell, once: OnceByHeader, study_id: int) -> StudyOut:
    """Cancel every run of a study that has not ended; 409 if all have ended."""
    with db.transaction() as session:
        study_service.cancel(session, bell, study_id)
        return once.keep(session, StudyOut.of(session, study_id))
