"""Fine-tuning jobs in OpenAI's form: files become a dataset, and the dataset a run.

    validating_files   a worker reads the upload, then prepares the dataset
    submitted          the run is queued; from here on its own states count
    failed, cancelled  before there was a run

A job goes on (`advance`) when it is created, when a worker has read or prepared something, and at every sweep: each
time in a transaction that looks at what is there, so it may be repeated at any time.
"""

from functools import partial

import structlog
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import SCOPES, Scope
from app.domain.accounts.quotas import OverQuota
from app.domain.data.versions import DatasetRequest
from app.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable, VeznaError
from app.domain.fine_tuning import JobError, JobRequest, mapping_of, param_of, run_spec
from app.domain.messages import _, choose_from
from app.domain.runs.spec import RunSpec
from app.queue import Doorbell
from app.services import audit, datasets, submission, uploads
from app.services import runs as run_service
from app.services.compatibility import Compatible
from app.settings import Settings
from app.store.ownership import owner_of, require_change
from app.store.queries import base_models, tags, users
from app.store.queries import datasets as dataset_rows
from app.store.queries import fine_tuning_jobs as jobs
from app.store.queries import uploads as upload_rows
from app.store.session import Database
from app.store.tables import DatasetRow, FineTuningJobRow, UploadRow, now

log = structlog.get_logger()

FILE = "file-"
"""Before the number of an upload."""


class _MovedOn(Exception):
    """Another process has taken the job further, or it was cancelled."""


def create(session: Session, bell: Doorbell, request: JobRequest) -> FineTuningJobRow:
    """A job, of which `advance` makes a run. Raises Invalid, and Forbidden for files of another user."""
    model = base_models.by_name(session, request.model)
    if model is None:
        names = [row.name for row in base_models.everyone(session)]
        raise Invalid.field(
            "model", _("There is no base model %(name)s", name=request.model), choose_from(names or [_("none yet")])
        )
    run_spec(request, "unknown", model.facts)
    upload = _file(session, "training_file", request.training_file)
    if request.validation_file is not None:
        validation = _file(session, "validation_file", request.validation_file)
        splits = {"train": upload.parts[0], "validation": validation.parts[0]}
        upload = uploads.together(session, bell, splits)
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
    with everything.reading() as session:
        job = jobs.find(session, job_id)
        viewer = _viewer(session, job) if job is not None else None
    if job is None or job.status != "validating_files":
        return
    try:
        if job.owner_id is not None and viewer is None:
            raise Forbidden(_("The user of this job may not start runs any more."))
        _advance(everything.seen_by(viewer), bell, settings, job)
    except _MovedOn:
        return
    except Unavailable as error:
        log.warning("a fine-tuning job waits", job=job_id, why=str(error))
    except VeznaError as error:
        failure = _error(error).model_dump()
        everything.write(lambda session: jobs.end(session, job_id, "failed", now(), failure))


def advance_waiting(db: Database, bell: Doorbell, settings: Settings) -> None:
    """Every job whose files were being read."""
    with db.reading() as session:
        waiting = jobs.waiting(session)
    for job_id in waiting:
        advance(db, bell, settings, job_id)


def cancel(session: Session, bell: Doorbell, job_id: int) -> None:
    """Cancel a job, or its run. Raises NotFound, and Conflict once it has ended."""
    job = jobs.get(session, job_id, lock=True)
    if jobs.end(session, job_id, "cancelled", now()):
        audit.record(session, Action.CANCEL_FINE_TUNING, job_id)
    elif job.run_id is not None and job.status == "submitted":
        run_service.cancel(session, bell, job.run_id)
    else:
        raise Conflict(_("Fine-tuning job %(id)s has already ended.", id=job_id))


def upload_of(session: Session, name: str) -> UploadRow:
    """The upload that a file id names. Raises NotFound."""
    number = name.removeprefix(FILE)
    if name.startswith(FILE) and number.isascii() and number.isdecimal() and len(number) < 12:
        row = upload_rows.find(session, int(number))
        if row is not None and row.source == "files" and len(row.parts) == 1:
            return row
    raise NotFound(_("There is no file %(id)s.", id=name[:60]))


def _file(session: Session, field: str, name: str) -> UploadRow:
    try:
        row = upload_of(session, name)
    except NotFound as error:
        raise Invalid.field(field, error.message, _("Upload it to /v1/files with the purpose fine-tune")) from None
    require_change(session, row)
    return row


def _viewer(session: Session, job: FineTuningJobRow) -> Viewer | None:
    """The job's user, who may still start runs; None without one."""
    user = users.find(session, job.owner_id)
    may_run = user is not None and not user.disabled and Scope.RUN in SCOPES[user.role]
    return Viewer(user.id) if user is not None and may_run else None


def _advance(db: Database, bell: Doorbell, settings: Settings, job: FineTuningJobRow) -> None:
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
        upload = upload_rows.get(session, job.upload_id)
        if upload.status == "failed":
            raise Invalid.field("training_file", _("It could not be read: %(why)s", why=upload.message))
        if (scan := upload.scan) is None:
            return None
        names = DatasetRequest(
            name=f"finetune-{upload.id}",
            title=upload.name[:200],
            upload_id=upload.id,
            mapping=mapping_of(scan),
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


def _error(error: VeznaError) -> JobError:
    fields = error.fields if isinstance(error, Invalid) else ()
    param = (param_of(fields[0].path) or None) if fields else None
    if isinstance(error, OverQuota):
        return JobError(code="insufficient_quota", message=error.message)
    code = f"invalid_{param}" if param in ("training_file", "validation_file") else "invalid_request"
    return JobError(code=code, message=error.message, param=param)
