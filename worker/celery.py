"""The Celery application of the worker: `celery -A worker.celery worker -Q train` and `… -Q control`.

It registers the tasks and handles the signals of the worker process; it never imports the ML libraries.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from billiard.process import current_process
from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from app import logs
from app.broker.queue import (
    CONTROL_QUEUE,
    ESTIMATE,
    INFER_QUEUE,
    INSPECT,
    PREPARE,
    READ,
    TRAIN,
    TRAIN_QUEUE,
    celery_app,
)
from app.domain.errors import Unavailable
from app.services.hooks import hooks
from app.store.database import migrate
from app.store.database.errors import cause
from app.store.workers import queries as workers
from worker import tasks
from worker.children.child import die_with_parent
from worker.children.interrupt import INTERRUPT
from worker.children.work import WorkQueue
from worker.machine import device, naming
from worker.machine.gpu_watch import GpuWatch
from worker.nodes.context import process_context
from worker.nodes.node import nodes
from worker.training import workdir

log = structlog.get_logger()

app = celery_app(process_context().settings)

app.task(tasks.train, name=TRAIN)
app.task(tasks.inspect, name=INSPECT)
app.task(tasks.estimate, name=ESTIMATE)
app.task(tasks.read, name=READ)
app.task(tasks.prepare, name=PREPARE)
for node in nodes():
    for name, task in node.tasks.items():
        app.task(task, name=name)
hooks()  # imported before the pool children are forked, and not within a transaction

HUNG_SECONDS = 60.0
_main_process = os.getpid()
_device: device.Device | None = None
"""What this worker trains on; None for a node that does not train."""
_signed_on = threading.Event()
_stopping = threading.Event()


@signals.setup_logging.connect
def set_up_logging(**_: Any) -> None:
    """Use our logging instead of Celery's."""
    logs.configure(process_context().settings)


@signals.worker_init.connect
def begin(sender: Any, **_: Any) -> None:
    """Check the database, find the devices of a worker that trains, and fork a pool child for each; with a number on
    the command line (`-c`), use at most as many. Celery has chosen the queues by now, and creates the pool next."""
    check_database()
    processes = sender.options.get("concurrency")  # None, a number or `auto`, which counts processors
    if _trains():
        find_device(processes if isinstance(processes, int) else None)
    if processes is None or (_device is not None and not isinstance(processes, int)):
        sender.concurrency = max(1, len(_device.cards) if _device is not None else 1)


def check_database() -> None:
    """Refuse to start if the database has another schema version or does not answer.

    By SystemExit, since Celery only logs any other exception of a signal handler. Pool children are forked at any time,
    while threads of this process use the database.
    """
    process_context().database.close_at_forks()
    try:
        migrate.require_current(process_context().database)
    except Unavailable as error:
        sys.exit(error.message)
    except SQLAlchemyError as error:
        sys.exit(f"The database does not answer: {getattr(error, 'orig', error)}")


def find_device(most: int | None) -> None:
    """Refuse to start a worker that trains if no requested GPU works; reserve its name. At most `most` GPUs are used: a
    worker with more GPUs than pool children would be rung for without end."""
    global _device
    settings = process_context().settings
    try:
        _device = device.find(settings.device, most=most)
    except Unavailable as error:
        sys.exit(error.message)
    if not settings.worker_name:
        naming.reserve(settings.database)


@signals.worker_ready.connect
def sign_on(sender: Any, **_: Any) -> None:
    """Register a worker that trains, and send heartbeats from its main process; sweep from that of a control node,
    which no estimate and no inspection keeps busy; do in other threads what no sweep waits for: remove files, take
    note of runs that have ended, and what features add."""
    if _consumes(CONTROL_QUEUE):
        jobs = {"sweep": _sweep, "removal": tasks.remove_files, "note of ended runs": tasks.take_note}
        jobs |= {name: partial(work, _stopping) for node in nodes() for name, work in node.repeated.items()}
        for name, work in jobs.items():
            threading.Thread(target=_repeat, args=(name, work), daemon=True, name=name).start()
    if _infers():
        for node in nodes():
            if node.inference is not None:
                threading.Thread(target=node.inference, args=(_stopping,), daemon=True, name="inference").start()
    if _device is not None:
        if _device.problem:
            log.error("a GPU cannot be used", problem=_device.problem)
        if not tasks.sign_on(process_context(), _device, _stopping):
            return
        _signed_on.set()
        watch = GpuWatch(_device.cards)
        if _device.cards:
            watch.start(process_context().settings.heartbeat_seconds, _stopping)
        threading.Thread(target=_beat, args=(watch, sender), daemon=True, name="heartbeat").start()


@signals.worker_shutting_down.connect
def drain(**_: Any) -> None:
    """On shutdown, mark the worker as draining: the pool child sees that with its next report and hands its run
    back. The pool children of a control node give up what they wait for."""
    _stopping.set()
    if _consumes(CONTROL_QUEUE) and not _trains():  # it would end a trainer too, which has to hand its run back
        INTERRUPT.set()
    if not _signed_on.is_set():
        return
    context = process_context()
    context.database.write(lambda session: workers.drain(session, context.worker))


@signals.worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Have a pool child end with its node and remove the folder of a killed one. One that trains prefers the GPU at its
    own place in the pool, and starts the spare trainer, so that it has imported the libraries before the first run."""
    if os.getpid() != _main_process:
        die_with_parent(_main_process)
    workdir.remove_abandoned(process_context().settings.home)
    if _trains():
        trainers = process_context().trainers
        if _device is not None and _device.cards:
            visible = {card.uuid: card.visible for card in _device.cards}
            trainers.use(visible, getattr(current_process(), "index", 0))
        trainers.warm_up()


@signals.worker_process_shutdown.connect
def end_children(**_: Any) -> None:
    """End the waiting child processes of a pool child that exits; the kernel ends those of one that is killed."""
    process_context().trainers.end()
    process_context().estimator.end()
    process_context().ingest.stop()
    for kept in list(process_context().of_features.values()):
        if isinstance(kept, WorkQueue):
            kept.stop()


def _trains() -> bool:
    return _consumes(TRAIN_QUEUE)


def _infers() -> bool:
    """Whether this node answers requests for inference."""
    on_control = _consumes(CONTROL_QUEUE) and process_context().settings.infer_on_control
    return _consumes(INFER_QUEUE) or on_control


def _consumes(name: str) -> bool:
    """Whether this node has a queue. Pool children know it too: they are forked after the queues are chosen."""
    return name in app.amqp.queues.consume_from


def _beat(watch: GpuWatch, consumer: Any) -> None:
    """Send heartbeats. Once all GPUs are lost, which they are until a restart, leave the rings to other workers."""
    context = process_context()
    interval, takes_rings = context.settings.heartbeat_seconds, True
    _alive(interval)
    while not _stopping.wait(interval):
        if watch.all_lost and takes_rings:
            log.error("all GPUs are lost: no run is taken until this worker has been started again")
            consumer.call_soon(consumer.cancel_task_queue, TRAIN_QUEUE)
            takes_rings = False
        try:
            tasks.beat(context, watch.latest)
        except SQLAlchemyError as error:
            log.warning(f"no heartbeat: {cause(error, context.database.url)}", error=str(error))
        _alive(interval)


def _alive(interval: float) -> None:
    """Tell health checks that this process works, whether or not the database answers: until three more intervals have
    passed, and a minute, in which a slow transaction or a stop may end."""
    if (file := process_context().settings.heartbeat_file) is None:
        return
    try:
        file.touch()
        hung = time.time() + 3 * interval + HUNG_SECONDS
        os.utime(file, (hung, hung))
    except OSError as error:
        log.warning("the heartbeat file cannot be written", file=str(file), error=str(error))


def _sweep() -> None:
    _alive(process_context().settings.sweep_seconds)
    tasks.sweep()


def _repeat(name: str, work: Callable[[], None]) -> None:
    """Do something at the interval of the sweep, until the node stops."""
    interval = process_context().settings.sweep_seconds
    due = time.monotonic()
    while not _stopping.wait(max(0.0, due - time.monotonic())):
        due = max(due + interval, time.monotonic())
        try:
            work()
        except SQLAlchemyError as error:
            log.warning(f"no {name}: {cause(error, process_context().database.url)}", error=str(error))
        except Exception:  # the next one follows
            log.exception(f"the {name} failed")
