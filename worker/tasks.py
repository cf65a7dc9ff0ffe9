"""Celery tasks: thin wrappers around services. Each takes an id and may be delivered any number of times."""

import threading
from collections.abc import Sequence
from functools import partial

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.broker.queue import TRAIN
from app.domain.errors import Unavailable, VeznaError
from app.domain.messages import _
from app.domain.models.base_model import ModelFacts
from app.domain.resources.devices import Gpu, VisibleGpu
from app.services.hooks import hooks
from app.services.models import models
from app.services.resources import estimates
from app.services.runs import attempts, ended
from app.services.runs.attempts import Claim
from app.services.users import audit
from app.services.workers import reservations, ringing, scheduling
from app.services.workers import sweep as sweeping
from app.services.workers import workers as worker_service
from app.store.database.errors import cause
from app.store.database.session import after_commit
from app.store.tables import EstimateRow, now
from app.store.workers import clock, queue
from app.store.workers import queries as workers
from worker.children.host import ChildError, ChildInterrupted
from worker.estimation.host import NoAnswer
from worker.ingest import tasks as ingest
from worker.inspection.host import inspect_model
from worker.machine import device
from worker.nodes import removal
from worker.nodes.claimed import LEFT_TO_THE_SWEEP
from worker.nodes.context import Context, process_context
from worker.samples.host import load_from, located
from worker.training import workdir
from worker.training.supervisor import supervise

log = structlog.get_logger()

RING_AT_ONCE = 32
"""Runs for which a worker rings when it signs on; the sweep rings for the others."""
SIGN_ON_AGAIN_SECONDS = 1.0


def train(run_id: int) -> None:
    """Claim a run and supervise it: the one that is rung for, or the one whose turn it is (`services.scheduling`)."""
    context = process_context()
    claims = context.database.write(lambda session: _claim(session, context, run_id))
    try:
        if claims:
            supervise(context, *claims)
    finally:
        for claim in claims:
            _release(context, claim.run_id)


def _claim(session: Session, context: Context, run_id: int) -> list[Claim]:
    """The run whose turn it is, and those that train together with it."""
    if workers.draining(session, context.worker):  # this ring may have been the only one: pass it on
        queue.to_ring(session, run_id)  # and if it is lost, the next sweep rings
        after_commit(session, partial(context.bell.ring, TRAIN, run_id))
        return []
    lease_seconds = context.settings.lease_seconds
    gpus = context.trainers.gpus
    claim, turns = None, scheduling.Turns(session, run_id, context.worker, gpus)
    while claim is None and (chosen := turns.next()) is not None:  # another worker may have been faster
        claim = attempts.claim(session, chosen, context.worker, lease_seconds, gpus)
    claims = [claim, *attempts.claim_companions(session, claim, lease_seconds)] if claim else []
    for each in claims:
        estimates.for_claimed(session, context.bell, each.run_id, workers.get(session, context.worker))
    return claims


def inspect(model_id: int) -> None:
    """Inspect a base model in a child process, and store its facts or the reason why there are none."""
    context = process_context()
    row = context.database.write(lambda session: models.begin_inspection(session, model_id))
    if row is None:
        return
    try:
        location = load_from(row.source, row.location, context.settings.home)
        on_hub = row.source == "hub"
        hub = context.hub_access(row.owner_id) if on_hub else None
        inspected = inspect_model(location, row.pinned if on_hub else "", hub)
    except ChildInterrupted:
        context.database.write(lambda session: models.give_back_inspection(session, model_id))
        return
    except Unavailable as error:
        inspected = error.message
    if isinstance(inspected, ModelFacts):
        context.database.write(lambda session: models.inspected(session, model_id, inspected))
    else:
        context.database.write(lambda session: models.uninspectable(session, model_id, inspected))


def estimate(estimate_id: int) -> None:
    """Compute a resource estimate in the estimation process, and store it or the reason why there is none."""
    context = process_context()
    row = context.database.write(lambda session: estimates.begin(session, estimate_id))
    if row is None:
        return
    try:
        location = located(row.request.location, context.settings.home)
        request = row.request.model_copy(update={"location": location})
        heartbeat = partial(_estimate_heartbeat, context, row)
        result = context.estimator.estimate(request, context.files, context.hub_access(request.hub_user), heartbeat)
    except ChildInterrupted:
        context.database.write(lambda session: estimates.give_back(session, row))
        return
    except VeznaError as error:
        result, why, internal = None, str(error), isinstance(error, NoAnswer) and error.internal
    except Exception as error:  # the sweep and all other estimates wait for this task
        log.exception("estimate failed", estimate_id=estimate_id)
        result, internal = None, True
        why = _("The estimate failed (%(why)s).", why=f"{type(error).__name__}: {error}")
    if result is not None:
        found = result

        def ready(session: Session) -> None:
            if estimates.ready(session, context.bell, row, found):
                reservations.revise(session, row.id)

        context.database.write(ready)
    else:
        context.database.write(lambda session: estimates.failed(session, context.bell, row, why, internal=internal))


def _estimate_heartbeat(context: Context, claimed: EstimateRow) -> None:
    """Keep the claim. Without it, the answer is written nowhere."""
    try:
        seen_at = context.database.write(lambda session: estimates.heartbeat(session, claimed))
    except LEFT_TO_THE_SWEEP as error:
        log.warning("heartbeat not written", estimate_id=claimed.id, why=type(error).__name__)
        return
    if seen_at is None:
        raise ChildError(_("Another worker has taken over this estimate."))
    claimed.seen_at = seen_at


def read(upload_id: int) -> None:
    """Queue an upload for the ingest thread."""
    context = process_context()
    context.ingest.add(partial(ingest.read, context, upload_id))


def prepare(dataset_id: int) -> None:
    """Queue a version of a dataset for the ingest thread."""
    context = process_context()
    context.ingest.add(partial(ingest.prepare, context, dataset_id))


def sweep() -> None:
    """Send lost tasks again, and end expired leases. It waits for no files store: that has a thread of its own."""
    context = process_context()
    with context.database.transaction() as session:
        context.clock.look(session, context.settings.lease_seconds)
        swept = sweeping.sweep(session, context.bell, context.settings)
    say = log.info if swept.rung or swept.requeued or swept.ended else log.debug
    say("swept", rung=swept.rung, requeued=swept.requeued, ended=swept.ended)
    audit.forget(context.database, now(), context.settings.audit_days)
    for hook in hooks():
        hook.go_on(context.database, context.bell, context.settings)


def remove_files() -> None:
    removal.remove_unneeded(process_context())


def take_note() -> None:
    context = process_context()
    ended.process(context.database, context.settings)


def sign_on(context: Context, detected: device.Device, stopping: threading.Event) -> bool:
    """Register this worker with its device, and remove the folders of a killed worker with the same home.

    Again and again while the database does not answer, or another transaction wins: Celery only logs an exception of a
    signal handler, and a worker that is not registered would take runs unseen. False if it is told to stop before.
    """
    workdir.remove_abandoned(context.settings.home)
    while not stopping.is_set():
        try:
            _sign_on(context, detected)
            return True
        except OperationalError as error:
            log.warning(f"not signed on: {cause(error, context.database.url)}; retrying", error=str(error))
        stopping.wait(SIGN_ON_AGAIN_SECONDS)
    return False


def _sign_on(context: Context, detected: device.Device) -> None:
    with context.database.transaction() as session:
        worker_service.sign_on(
            session,
            context.worker,
            device=detected.kind,
            device_name=detected.name,
            memory_bytes=detected.memory_bytes,
            cores=detected.cores,
            bf16=detected.bf16,
            capabilities=device.capabilities(detected.kind),
            context_bytes=detected.context_bytes,
            problem=detected.problem,
            gpus=[Gpu(uuid=card.uuid, name=card.name, memory_bytes=card.memory_bytes) for card in detected.cards],
        )
        waiting = ringing.to_ring_again(session, clock.now(session))[:RING_AT_ONCE]
        queue.rung(session, waiting, clock.now(session))
        for run_id in waiting:  # what waits need not wait for the sweep too
            after_commit(session, partial(context.bell.ring, TRAIN, run_id))


def beat(context: Context, gpus: Sequence[VisibleGpu] = ()) -> None:
    """Write a heartbeat, with what was seen of the GPUs."""
    context.database.write(lambda session: workers.beat(session, context.worker, clock.now(session), gpus))


def _release(context: Context, run_id: int) -> None:
    try:
        context.database.write(lambda session: workers.release(session, context.worker, run_id))
    except OperationalError as error:
        why = cause(error, context.database.url)
        log.warning(f"{why}; the worker will be seen as idle at its next run", error=str(error.orig))
