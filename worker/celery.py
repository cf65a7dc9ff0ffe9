"""The Celery application of the worker: `celery -A worker.celery worker -Q train` and `… -Q control -B`.

It names the tasks and reacts to the life of the worker process; it never imports the ML libraries.
"""

import sys
import threading
from typing import Any

import structlog
from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from app import logs
from app.domain.errors import Unavailable
from app.queue import ESTIMATE, INSPECT, PREPARE, READ, SWEEP, TRAIN, TRAIN_QUEUE, celery_app
from app.store import migrate
from app.store.queries import workers
from worker import tasks
from worker.context import context

log = structlog.get_logger()

app = celery_app(context().settings)

app.task(tasks.train, name=TRAIN)
app.task(tasks.inspect, name=INSPECT)
app.task(tasks.estimate, name=ESTIMATE)
app.task(tasks.read, name=READ)
app.task(tasks.prepare, name=PREPARE)
app.task(tasks.sweep, name=SWEEP)

_signed_on = threading.Event()
_stopping = threading.Event()


@signals.setup_logging.connect
def set_up_logging(**_: Any) -> None:
    """Our logging instead of Celery's."""
    logs.configure(context().settings)


@signals.worker_init.connect
def check_database(**_: Any) -> None:
    """Refuse to start on a database that this code does not know, or that is away.

    By SystemExit, since Celery logs any other exception of a signal's receiver and goes on.
    """
    try:
        migrate.require_current(context().database)
    except Unavailable as error:
        sys.exit(error.message)
    except SQLAlchemyError as error:
        sys.exit(f"The database does not answer: {getattr(error, 'orig', error)}")


@signals.worker_ready.connect
def sign_on(**_: Any) -> None:
    """A worker that trains makes itself known and gives signs of life from its main process."""
    if _trains():
        tasks.sign_on(context())
        _signed_on.set()
        threading.Thread(target=_beat, daemon=True, name="heartbeat").start()


@signals.worker_shutting_down.connect
def drain(**_: Any) -> None:
    """Told to stop: the pool child hears it with its next report and hands its run back."""
    _stopping.set()
    if not _signed_on.is_set():
        return
    here = context()
    with here.database.transaction() as session:
        workers.drain(session, here.worker)


@signals.worker_process_init.connect
def warm_up(**_: Any) -> None:
    """A pool child that will train has its first trainer import the libraries before there is anything to do."""
    if _trains():
        context().trainers.warm_up()


@signals.worker_process_shutdown.connect
def end_children(**_: Any) -> None:
    """A pool child that ends takes its processes that wait with it; one that is killed leaves that to the kernel."""
    context().trainers.end()
    context().estimator.end()
    context().ingest.stop()


def _trains() -> bool:
    """Whether this node takes runs. True in its pool children alike: they are forked when the queues are chosen."""
    return TRAIN_QUEUE in app.amqp.queues.consume_from


def _beat() -> None:
    here = context()
    while not _stopping.wait(here.settings.heartbeat_seconds):
        try:
            tasks.beat(here)
        except SQLAlchemyError as error:
            log.warning("no heartbeat: the database is away", error=str(error))
