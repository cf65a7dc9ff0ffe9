"""Celery tasks: thin wrappers around services. Each takes an id and may be delivered any number of times."""

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
from worker.samples.host import load_from, located
from worker.training import workdir
from worker.training.supervisor import supervise

log = structlog.get_logger()

STRAY_AFTER = timedelta(days=1)
"""An upload receives its files and is named by a row well within this time."""


def train(run_id: int) -> None:
    """Claim a run and supervise it. A second delivery finds nothing to claim."""
    here = context()
    with here.database.transaction() as session:
        if workers.draining(session, here.worker):
            return  # the sweeper will send it to another worker
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
    """Inspect a base model in a child process, and store its facts or the reason why there are none."""
    here = context()
    with here.database.transaction() as session:
        row = models.begin_inspection(session, model_id)
    if row is None:
        return
    try:
        location = load_from(row.source, row.location, here.settings.home)
        found = inspect_model(location, row.pinned if row.source == "hub" else "")
    except Unavailable as error:
        found = error.message
    with here.database.transaction() as session:
        if isinstance(found, ModelFacts):
            models.inspected(session, model_id, found)
        else:
            models.uninspectable(session, model_id, found)


def estimate(estimate_id: int) -> None:
    """Compute a resource estimate in the estimation process, and store it or the reason why there is none."""
    here = context()
    with here.database.transaction() as session:
        row = estimates.begin(session, estimate_id)
    if row is None:
        return
    try:
        location = located(row.request.location, here.settings.home)
        found = here.estimator.estimate(row.request.model_copy(update={"location": location}), here.files)
    except VeznaError as error:
        found, why = None, str(error)
    except Exception as error:  # the sweep and all other estimates wait for this task
        log.exception("estimate failed", estimate_id=estimate_id)
        found, why = None, f"The estimate failed ({type(error).__name__}: {error})."
    with here.database.transaction() as session:
        if found is not None:
            estimates.ready(session, here.bell, row, found)
        else:
            estimates.failed(session, here.bell, row, why)


def read(upload_id: int) -> None:
    """Queue an upload for the ingest thread."""
    here = context()
    here.ingest.add(partial(ingest.read, here, upload_id))


def prepare(dataset_id: int) -> None:
    """Queue a version of a dataset for the ingest thread."""
    here = context()
    here.ingest.add(partial(ingest.prepare, here, dataset_id))


def sweep() -> None:
    """Send lost tasks again, end expired leases, and remove files that are no longer needed."""
    here = context()
    with here.database.transaction() as session:
        swept = sweeping.sweep(session, here.bell, here.settings)
    if swept.rung or swept.requeued or swept.ended:
        log.info("swept", rung=swept.rung, requeued=swept.requeued, ended=swept.ended)
    _remove_checkpoints(here)
    _remove_strays(here)


def sign_on(here: Context) -> None:
    """Register this worker with its device, and remove the folders of a killed worker with the same home."""
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
    """Write a heartbeat."""
    with here.database.transaction() as session:
        workers.beat(session, here.worker, now())


def _remove_checkpoints(here: Context) -> None:
    """Remove the checkpoints of ended runs: cancelling a queued run or ending a lost one does not touch files. Outside
    of any transaction, since a store may be slow."""
    with here.database.reading() as session:
        ended = runs.ended_with_checkpoints(session)
    for run_id in ended:
        try:
            here.files.remove(attempts.checkpoint_prefix(run_id))
        except OSError as error:  # the next sweep retries
            log.warning("checkpoints of an ended run could not be removed", run_id=run_id, error=str(error))
            continue
        with here.database.transaction() as session:
            runs.forget_checkpoints(session, run_id)


def _remove_strays(here: Context) -> None:
    """Remove files without a row: received files whose process was killed, and folders of deleted runs."""
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
    except (OSError, NotFound) as error:  # another worker's sweep removed it first, or the next one retries
        log.warning("stray files could not be removed", error=str(error))


def _release(here: Context, run_id: int) -> None:
    try:
        with here.database.transaction() as session:
            workers.release(session, here.worker, run_id)
    except OperationalError:
        log.warning("database unreachable; the worker will be seen as idle at its next run")
