"""Fine-tuning jobs in OpenAI's form: files become a dataset, and the dataset a run.

    validating_files   a worker reads the upload, then prepares the dataset
    submitted          the run is queued; from here on its own states count
    failed, cancelled  before there was a run

A job goes on (`advance`) when it is created, when a worker has read or prepared something, and at every sweep: each
time in a transaction that looks at what is there, so it may be repeated at any time.
"""

from collections.abc import Mapping
from functools import partial
from itertools import count

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.accounts.ownership import Viewer, Visibility, hides
from app.domain.accounts.policy import SCOPES, Role, Scope
from app.domain.data.versions import DatasetRequest
from app.domain.errors import Conflict, Forbidden, Invalid, NotFound, OverQuota, Unavailable, VeznaError
from app.domain.messages import _, choose_from
from app.domain.runs.spec import RunSpec
from app.features.openai_jobs import queries as jobs
from app.features.openai_jobs.rules import JobError, JobRequest, mapping_of, param_of, run_spec
from app.features.openai_jobs.tables import FineTuningJobRow
from app.services.data import datasets, uploads
from app.services.models.compatibility import Compatible
from app.services.runs import runs as run_service
from app.services.runs import submission
from app.services.users import audit, limits
from app.settings import Settings
from app.store.data import queries as dataset_rows
from app.store.data import uploads as upload_rows
from app.store.database.errors import cause
from app.store.database.ownership import owner_of, require_change, viewer_of
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.runs import queries as run_rows
from app.store.studies import tags
from app.store.tables import BaseModelRow, DatasetRow, UploadRow, now
from app.store.users import queries as users

log = structlog.get_logger()

FILE = "file-"
"""Before the number of an upload."""
AWAY = (Unavailable, OperationalError, InterfaceError)
"""What a job waits for, until the next sweep."""


class _MovedOn(Exception):
    """Another process has taken the job further, or it was cancelled."""


def create(session: Session, bell: Doorbell, request: JobRequest) -> FineTuningJobRow:
    """A job, of which `advance` makes a run. Raises Invalid, Forbidden for files of another user, and OverQuota if the
    user has no device time or room left."""
    model = base_models.by_name(session, request.model)
    if model is None:
        names = [row.name for row in base_models.everyone(session)]
        raise Invalid.field(
            "model", _("There is no base model %(name)s", name=request.model), choose_from(names or [_("none yet")])
        )
    run_spec(request, "unknown", model.facts)
    given = {"training_file": request.training_file, "validation_file": request.validation_file}
    files = {field: _file(session, field, name) for field, name in given.items() if name is not None}
    _require_shared(session, {"model": model, **files})
    for upload_id in sorted(row.id for row in files.values()):  # a deletion waits, and then sees the job
        upload_rows.get(session, upload_id, lock=True)
    limits.require_device_time(session, owner_of(session))
    limits.require_space(session, owner_of(session))
    upload = files["training_file"]
    if "validation_file" in files:
        upload = uploads.together(session, bell, {"train": upload, "validation": files["validation_file"]})
    job = FineTuningJobRow(
        owner_id=owner_of(session), request_json=request.model_dump(mode="json"), upload_id=upload.id
    )
    session.add(job)
    session.flush()
    audit.record(session, Action.SUBMIT_FINE_TUNING, job.id, base_model=model.name)
    return job


def advance(db: Database, bell: Doorbell, settings: Settings, job_id: int) -> None:
    """Take a job as far as it goes now, in the name of its user. What makes it impossible ends it as failed."""
    everything = db.seen_by(None)
    try:
        try:
            _advance(everything, bell, settings, job_id)
        except (*AWAY, _MovedOn):
            raise
        except Exception as error:
            if not isinstance(error, VeznaError):
                log.exception("a fine-tuning job failed", job=job_id)
            failure = _error(error).model_dump()
            everything.write(lambda session: jobs.end(session, job_id, "failed", now(), failure))
    except _MovedOn:
        return
    except AWAY as error:
        why = str(error) if isinstance(error, Unavailable) else cause(error, db.url)
        log.warning("a fine-tuning job waits", job=job_id, why=why)


def advance_waiting(db: Database, bell: Doorbell, settings: Settings) -> None:
    """Every job whose files were being read; what fails with one of them does not keep the others."""
    with db.reading() as session:
        waiting = jobs.waiting(session)
    for job_id in waiting:
        advance(db, bell, settings, job_id)


def cancel(session: Session, bell: Doorbell, job_id: int) -> None:
    """Cancel a job, or its run. Raises NotFound, and Conflict once it has ended."""
    job = jobs.get(session, job_id, lock=True)
    if jobs.end(session, job_id, "cancelled", now()):
        audit.record(session, Action.CANCEL_FINE_TUNING, job_id)
    elif job.run_id is not None and job.status == "submitted" and run_rows.find(session, job.run_id) is not None:
        run_service.cancel(session, bell, job.run_id)
    else:
        raise Conflict(_("Fine-tuning job %(id)s has already ended.", id=job_id))


def upload_of(session: Session, name: str) -> UploadRow:
    """The upload that a file id names. Raises NotFound."""
    row = upload_rows.find(session, number_of(name))
    if row is not None and row.source == "files" and len(row.parts) == 1:
        return row
    raise NotFound(_("There is no file %(id)s.", id=name[:60]))


def number_of(name: str) -> int:
    """The id of an upload, there or not, in a file id. Raises NotFound."""
    number = name.removeprefix(FILE)
    if name.startswith(FILE) and number.isascii() and number.isdecimal() and len(number) < 12:
        return int(number)
    raise NotFound(_("There is no file %(id)s.", id=name[:60]))


def _file(session: Session, field: str, name: str) -> UploadRow:
    try:
        row = upload_of(session, name)
    except NotFound as error:
        raise Invalid.field(field, error.message, _("Upload it to /v1/files with the purpose fine-tune")) from None
    require_change(session, row)
    return row


def _require_shared(session: Session, used: Mapping[str, BaseModelRow | UploadRow]) -> None:
    """Raise Invalid if something is private to another user, which only an admin can name: the run would show it."""
    viewer = viewer_of(session)
    for field, row in used.items():
        if viewer is not None and hides(row.private_to, viewer.user_id):
            what = _("%(name)s is private to another user", name=row.name)
            raise Invalid.field(field, what, _("Make it visible to the team, or let that user create the job"))


def _viewer(session: Session, job: FineTuningJobRow) -> Viewer | None:
    """The job's user; None without login. A private file or base model makes the run private. Raises Forbidden if the
    user may not start runs any more."""
    if job.owner_id is None:
        return None
    user = users.find(session, job.owner_id)
    if user is None or user.disabled or Scope.RUN not in SCOPES[user.role]:
        raise Forbidden(_("The user of this job may not start runs any more."))
    used = (upload_rows.find(session, job.upload_id), base_models.by_name(session, job.request.model))
    private = any(row is not None and row.private_to is not None for row in used)
    creates = Visibility.PRIVATE if private else Visibility.TEAM
    return Viewer(user.id, sees_all=user.role is Role.ADMIN, creates=creates)


def _advance(everything: Database, bell: Doorbell, settings: Settings, job_id: int) -> None:
    with everything.reading() as session:
        job = jobs.find(session, job_id)
        if job is None or job.status != "validating_files":
            return
        viewer = _viewer(session, job)
    db = everything.seen_by(viewer)
    with db.transaction() as session:
        dataset = _dataset(session, bell, job.id)
        model = base_models.by_name(session, job.request.model)
    if dataset is None:
        return
    spec = run_spec(job.request, dataset.reference, model.facts if model else None)
    submission.submit(db, bell, settings, spec, partial(_accept, bell=bell, job_id=job.id, spec=spec), insist=False)


def _dataset(session: Session, bell: Doorbell, job_id: int) -> DatasetRow | None:
    """The dataset of a job once it is ready; None while a worker reads or prepares. Raises Invalid if it never is."""
    job = _locked(session, job_id)
    if job.dataset_id is None:
        upload = upload_rows.find(session, job.upload_id, lock=True)
        if upload is None:
            raise Invalid.field(
                "training_file", _("The file was deleted"), _("Upload it again and create the job again")
            )
        if upload.status == "failed":
            raise Invalid.field("training_file", _("It could not be read: %(why)s", why=upload.message))
        if (scan := upload.scan) is None:
            return None
        names = DatasetRequest(
            name=_dataset_name(session, upload),
            title=upload.name[:200],
            upload_id=upload.id,
            mapping=mapping_of(scan, job.request.task),
            splitting=scan.splitting,
        )
        job.dataset_id = datasets.prepare(session, bell, names).id
    row = dataset_rows.by_id(session, job.dataset_id)
    if row is None:
        raise Invalid.field("training_file", _("Its dataset was deleted"), _("Create the job again"))
    if row.status in ("blocked", "failed"):
        why = row.message or _("its rows have problems")
        raise Invalid.field(
            "training_file",
            _("The dataset %(reference)s cannot be used: %(why)s", reference=row.reference, why=why.rstrip(".")),
            _("Open it on the page Data, which names the rows; correct them and upload the file again"),
        )
    return row if row.status == "ready" else None


def _dataset_name(session: Session, upload: UploadRow) -> str:
    """`finetune-UPLOAD`, or with a number behind it where another dataset has that name. Jobs on the same files get the
    same dataset. The upload is locked."""
    made = {row.name for row in dataset_rows.of_upload(session, upload.id)}
    names = (f"finetune-{upload.id}" + (f"-{number}" if number > 1 else "") for number in count(1))
    return next(name for name in names if name in made or not dataset_rows.is_taken(session, name))


def _accept(session: Session, compatible: Compatible, *, bell: Doorbell, job_id: int, spec: RunSpec) -> None:
    job = _locked(session, job_id)
    run = run_service.submit(session, bell, spec, compatible)
    job.run_id, job.status = run.id, "submitted"
    if job.request.suffix:
        tags.set_of_run(session, run.id, [job.request.suffix])


def _locked(session: Session, job_id: int) -> FineTuningJobRow:
    """The job while it has no run. Raises _MovedOn."""
    job = jobs.find(session, job_id, lock=True)
    if job is None or job.status != "validating_files":
        raise _MovedOn
    return job


def _error(error: Exception) -> JobError:
    if not isinstance(error, VeznaError):
        why = _("Vezna failed (%(error)s). Its log has the details; tell an admin.", error=type(error).__name__)
        return JobError(code="server_error", message=why)
    fields = error.fields if isinstance(error, Invalid) else ()
    param = (param_of(fields[0].path) or None) if fields else None
    if isinstance(error, OverQuota):
        return JobError(code="insufficient_quota", message=error.message)
    code = f"invalid_{param}" if param in ("training_file", "validation_file") else "invalid_request"
    return JobError(code=code, message=error.message, param=param)
