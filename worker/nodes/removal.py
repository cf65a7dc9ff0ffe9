"""Removes files that are no longer needed, in a thread of the control node: a store may be slow, or not answer.

Only after the rows are read and outside of any transaction. What cannot be removed now is removed by a later round.
Names are read before rows: a file whose row is written meanwhile is no stray.
"""

import time
from datetime import timedelta
from functools import partial

import structlog

from app.domain.errors import NotFound
from app.services.ownership import deletion
from app.services.runs import attempts
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.files.files import DATASETS, RUNS, UPLOADS, StoreUnavailable
from app.store.runs import queries as runs
from worker.nodes.context import Context

log = structlog.get_logger()

STRAY_AFTER = timedelta(days=1)
"""A file is named by a row well within this time after it is written."""
RUNS_SECONDS = 3600.0
"""Between searches for files of exports and attempts: each lists every file of every run."""
_runs_due = 0.0


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
    """Remove files without a row: received files whose process was killed, what could not be removed when its row was
    deleted or its attempt to train or to export ended, and folders of deleted runs."""
    global _runs_due
    try:
        received, folders = context.files.names(UPLOADS), context.files.names(RUNS)
        prepared = context.files.names(DATASETS)
        with context.database.reading() as session:
            stray = (received - uploads.named_files(session)) | (prepared - datasets.named_files(session))
            orphaned = deletion.orphaned_folders(session, folders)
        for folder in orphaned:
            context.files.remove(folder)
        for name in stray:
            _remove_old(context, name, [name])
        if time.monotonic() >= _runs_due:
            _remove_strays_of_runs(context)
            _runs_due = time.monotonic() + RUNS_SECONDS
    except StoreUnavailable:
        raise
    except (OSError, NotFound) as error:  # another process removed it first, or a later round retries
        log.warning("stray files could not be removed", error=str(error))


def _remove_strays_of_runs(context: Context) -> None:
    names = context.files.names_below(RUNS)
    with context.database.reading() as session:
        strays = deletion.stray_files(session, names)
    for folder, files in strays.items():
        _remove_old(context, folder, files)


def _remove_old(context: Context, prefix: str, names: list[str]) -> None:
    """Remove what has a prefix unless one of its files is new."""
    if all(context.files.age(name) > STRAY_AFTER for name in names):
        context.files.remove(prefix)
