"""Does work that this worker has claimed: reports how far it is, and notes how it ended."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from app.domain.errors import VeznaError
from app.domain.messages import Message
from app.services.workers.work import Claimed, WorkKind
from app.store.files.files import StoreUnavailable
from worker.children.host import ChildInterrupted
from worker.children.work import WorkCancelled, WorkQueue
from worker.machine import disk
from worker.nodes.context import Context, process_context
from worker.nodes.node import Task

log = structlog.get_logger()

LEFT_TO_THE_SWEEP = (OperationalError, InterfaceError, StoreUnavailable)
"""The database or the files store is unreachable."""
REPORT_SECONDS = 2.0
Result = TypeVar("Result")
Report = Callable[[float], bool]
"""Takes the share that is done; False once the claim is no longer valid."""


def by_thread(queue: type[WorkQueue], work: Callable[[Context, int], None]) -> Task:
    """A task that has a thread of this process do the work on a row."""

    def add(row_id: int) -> None:
        context = process_context()
        context.one(queue).add(partial(work, context, row_id))

    return add


def reporter(context: Context, queue: WorkQueue, kind: WorkKind[Any], claim: Claimed) -> Report:
    """What reports a claim's progress; the claim of a worker that shuts down is no longer valid."""
    return lambda share: not queue.stopped and context.database.write(partial(kind.progress, claim=claim, share=share))


@contextmanager
def noting_the_end(
    context: Context,
    kind: WorkKind[Any],
    claim: Claimed,
    failure: Callable[[str], Message],
    *,
    undo: Callable[[], None] = lambda: None,
    if_full: Message = disk.START_AGAIN,
) -> Iterator[None]:
    """What is raised within ends the work: it is given back if this worker shuts down, left to the sweep if database or
    files store cannot be reached, and has failed otherwise. `failure`: the sentence for an unforeseen error; `undo`:
    before it is given back or has failed; `if_full`: what to do if a disk is full."""
    write = context.database.write
    try:
        yield
    except (WorkCancelled, ChildInterrupted):
        undo()
        # unless it was cancelled, the worker shuts down
        write(partial(kind.give_back, bell=context.bell, claim=claim))
    except LEFT_TO_THE_SWEEP as error:
        log.warning("work not complete", task=kind.task, id=claim.id, why=type(error).__name__)
    except Exception as error:
        undo()
        if isinstance(error, VeznaError):
            why = error.message
        elif disk.is_full(error):
            why = disk.full(disk.place(error, context.settings.home), remedy=if_full).message
        else:
            log.error("work failed", exc_info=error, task=kind.task, id=claim.id)
            why = failure(f"{type(error).__name__}: {error}")
        write(partial(kind.failed, claim=claim, message=why))


def while_reporting(work: Callable[[], Result], report: Report, share: float) -> Result:
    """Do something that may take longer than a heartbeat. Raises WorkCancelled if the claim is no longer valid."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # raised in the thread that waits for it
            done.set_exception(error)

    thread = Thread(target=run, daemon=True, name="claimed-work")
    thread.start()
    try:
        while report(share):
            if wait([done], REPORT_SECONDS).done:
                return done.result()
        raise WorkCancelled
    finally:
        thread.join()  # what it still writes has to be there before the attempt's files are removed
