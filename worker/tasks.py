"""What a ring brings about: thin shells around services. They take an id alone, and may be rung any number of times."""

from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy.exc import OperationalError

from app.domain.errors import NotFound, Unavailable, VeznaError
from app.domain.models.base_model import ModelFacts
from app.services import attempts, deletion, models
from app.services import sweep as sweeping
from app.services import workers as worker_service
from app.services.resources import estimates
from app.store.files import RUNS, UPLOADS
from app.store.queries import runs, uploads, workers
from app.store.tables import now
from worker import device
from worker.context import Context, context
from worker.ingest import tasks as ingest
from worker.inspection.host import inspect_model
from worker.training import workdir
from worker.training.supervisor import supervise

log = structlog.get_logger()

STRAY_AFTER = timedelta(days=1)
"""No file takes so long from its first byte to the upload that names it."""


def train(run_id: int) -> None:
    """Claim a run and see it to its end. A second ring finds nothing to claim."""
    here = context()
    with here.database.transaction() as session:
        if workers.draining(session, here.worker):
            return  # the sweeper rings again for a worker that stays
        claim = attempts.claim(session, run_id, here.worker, here.settings.lease_seconds)
        if claim is not None:
            estimates.for_claimed(session, here.bell, run_id, workers.get(session, here.worker))
    if claim is None:
        return
    try:
        supervise(here, claim)
    finally:
        _release(here, run_id)


def inspect(model_id: int) -> None:
    """Inspect a base model in a process of its own, and note what was found."""
    here = context()
    with here.database.transaction() as session:
        row = models.begin_inspection(session, model_id)
    if row is None:
        return
    try:
        found = inspect_model(models.location_of(row.source, row.location), row.pinned if row.source == "hub" else "")
    except Unavailable as error:
        found = error.message
    with here.database.transaction() as session:
        if isinstance(found, ModelFacts):
            models.inspected(session, model_id, found)
        else:
            models.uninspectable(session, model_id, found)


def estimate(estimate_id: int) -> None:
    """Work out what runs will need, in the process that predicts, and note the answer, or a sentence why there is
    none."""
    here = context()
    with here.database.transaction() as session:
        row = estimates.begin(session, estimate_id)
    if row is None:
        return
    try:
        found = here.estimator.work_out(row.request, here.files)
    except VeznaError as error:
        found, why = None, str(error)
    except Exception as error:  # the sweep and everybody else's estimates wait behind this one
        log.exception("an estimate went wrong", estimate_id=estimate_id)
        found, why = None, f"Vezna could not work this out ({type(error).__name__}: {error})."
    with here.database.transaction() as session:
        if found is not None:
            estimates.ready(session, here.bell, row, found)
        else:
            estimates.failed(session, here.bell, row, why)


def read(upload_id: int) -> None:
    """Have an upload read, beside whatever else is to be done."""
    here = context()
    here.ingest.add(partial(ingest.read, here, upload_id))


def prepare(dataset_id: int) -> None:
    """Have a version of a dataset prepared, beside whatever else is to be done."""
    here = context()
    here.ingest.add(partial(ingest.prepare, here, dataset_id))


def sweep() -> None:
    """Ring again for what was lost, and end leases that ran out."""
    here = context()
    with here.database.transaction() as session:
        swept = sweeping.sweep(session, here.bell, here.settings)
    if swept.rung or swept.requeued or swept.ended:
        log.info("swept", rung=swept.rung, requeued=swept.requeued, ended=swept.ended)
    _remove_checkpoints(here)
    _remove_strays(here)


def sign_on(here: Context) -> None:
    """Make this worker known with its device, and remove what a worker of this home that was killed has left."""
    workdir.remove_abandoned(here.settings.home)
    found = device.find(here.settings.device)
    with here.database.transaction() as session:
        worker_service.sign_on(
            session,
            here.worker,
            device=found.kind,
            device_name=found.name,
            memory_bytes=found.memory_bytes,
            cores=found.cores,
            bf16=found.bf16,
            capabilities=device.capabilities(),
        )


def beat(here: Context) -> None:
    """A sign of life."""
    with here.database.transaction() as session:
        workers.beat(session, here.worker, now())


def _remove_checkpoints(here: Context) -> None:
    """Of runs that have ended: whoever cancels a queued run, and the sweep that ends a lost one, has no hand on files.
    Outside of any transaction, since a store may be slow."""
    with here.database.reading() as session:
        ended = runs.ended_with_checkpoints(session)
    for run_id in ended:
        try:
            here.files.remove(attempts.checkpoint_prefix(run_id))
        except OSError as error:  # the next sweep tries again
            log.warning("checkpoints of an ended run could not be removed", run_id=run_id, error=str(error))
            continue
        with here.database.transaction() as session:
            runs.forget_checkpoints(session, run_id)


def _remove_strays(here: Context) -> None:
    """Files that no row names: received files whose process was killed, and folders of deleted runs."""
    try:
        there, folders = here.files.names(UPLOADS), here.files.names(RUNS)
        with here.database.reading() as session:
            stray = there - uploads.named_files(session)
            orphaned = deletion.orphaned_folders(session, folders)
        for folder in orphaned:
            here.files.remove(folder)
        for name in stray:
            if here.files.age(name) > STRAY_AFTER:
                here.files.remove(name)
    except (OSError, NotFound) as error:  # another worker's sweep has just removed it, or the next one tries again
        log.warning("files that no upload names could not be removed", error=str(error))


def _release(here: Context, run_id: int) -> None:
    try:
        with here.database.transaction() as session:
            workers.release(session, here.worker, run_id)
    except OperationalError:
        log.warning("the database is away; the worker will be seen as idle at its next run")
