"""Removes files that are no longer needed, in a thread of the control node: a store may be slow, or not answer.

Only after the rows are read and outside of any transaction. What cannot be removed now is removed by a later round.
"""

from datetime import timedelta
from functools import partial

import structlog

from app.domain.errors import NotFound
from app.services import attempts, deletion
from app.store.files import RUNS, UPLOADS, StoreUnavailable
from app.store.queries import runs, uploads
from worker.context import Context

log = structlog.get_logger()

STRAY_AFTER = timedelta(days=1)
"""An upload receives its files and is named by a row well within this time."""


def remove_unneeded(context: Context) -> None:
    """One round. It ends at once if the store does not answer."""
    try:
        _remove_checkpoints(context)
        _remove_strays(context)
    except StoreUnavailable as error:
        log.warning("unneeded files could not be removed", error=str(error))


def _remove_checkpoints(context: Context) -> None:
    """Remove the checkpoints of ended runs: cancelling a queued run or ending a lost one does not touch files."""
    with context.database.reading() as session:
        ended = runs.ended_with_checkpoints(session)
    for run_id in ended:
        try:
            context.files.remove(attempts.checkpoint_prefix(run_id))
        except StoreUnavailable:
            raise
        except OSError as error:
            log.warning("checkpoints of an ended run could not be removed", run_id=run_id, error=str(error))
            continue
        context.database.write(partial(runs.forget_checkpoints, run_id=run_id))


def _remove_strays(context: Context) -> None:
    """Remove files without a row: received files whose process was killed, and folders of deleted runs."""
    try:
        received, folders = context.files.names(UPLOADS), context.files.names(RUNS)
        with context.database.reading() as session:
            stray = received - uploads.named_files(session)
            orphaned = deletion.orphaned_folders(session, folders)
        for folder in orphaned:
            context.files.remove(folder)
        for name in stray:
            if context.files.age(name) > STRAY_AFTER:
                context.files.remove(name)
    except StoreUnavailable:
        raise
    except (OSError, NotFound) as error:  # another process removed it first, or a later round retries
        log.warning("stray files could not be removed", error=str(error))
