"""An attempt's checkpoints, moved from the trainer's disk to the files store.

The trainer writes a checkpoint to its disk and reports it. The supervisor moves the folder out of the trainer's reach,
so that it stays however long the upload takes; a separate thread uploads it, so that cancel and lease do not wait; and
it counts once the database lists it. The store keeps the newest two: if one is damaged, the next attempt resumes from
the other.

A checkpoint that cannot be stored or read never fails a run, whatever the store raises: botocore's errors are no
OSError. While the store is away, none is read and none counts as damaged. A disk without room for one to be read fails
the run: it would begin anew on this disk.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.runs.checkpoint import STATE_FILE, StoredCheckpoint
from app.domain.runs.job import CheckpointReport
from app.services.runs import attempts
from app.services.runs.attempts import Claim
from app.store.files.files import Files, StoreUnavailable, sha256
from worker.machine import disk

log = structlog.get_logger()

Write = Callable[[Callable[[Session], None]], None]
"""Commit a change to the database, retrying as long as the lease lasts."""


class _Closed(Exception):
    """The attempt is over; no further file is stored."""


class Checkpoints:
    """The checkpoints of one attempt. `folder` is on the disk that its trainer writes to."""

    def __init__(self, files: Files, claim: Claim, write: Write, folder: Path) -> None:
        self._files, self._claim, self._write, self._folder = files, claim, write, folder
        self._waiting: tuple[int, Path] | None = None
        """Step and folder of the checkpoint that waits to be stored."""
        self._storing: Future[StoredCheckpoint] | None = None
        self.resumed: StoredCheckpoint | None = None
        """The one that was fetched."""
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")

    def fetch(self, folder: Path) -> tuple[Path | None, list[str]]:
        """Download the newest intact checkpoint into `folder`; returns its path and a note for each damaged one.

        Raises StoreUnavailable, and RunFailed (`disk_full`).
        """
        notes: list[str] = []
        for stored in reversed(self._claim.checkpoints):
            target = folder / f"resume-{stored.step}"
            try:
                for name, digest in stored.files.items():
                    self._files.get(f"{stored.prefix}/{name}", target / name)
                    if sha256(target / name) != digest:
                        raise ValueError(f"the checksum of {name} is wrong")
                self.resumed = stored
                return target, notes
            except StoreUnavailable:
                raise
            except Exception as error:
                if disk.is_full(error):
                    raise disk.full(folder) from error
                log.warning("checkpoint unusable", run_id=self._claim.run_id, step=stored.step, error=str(error))
                notes.append(f"The checkpoint of step {stored.step} is unusable: {error}.")
        return None, notes

    def take(self, report: CheckpointReport) -> None:
        """Take over a checkpoint that the trainer has written. One that still waits is replaced."""
        folder = self._folder / str(report.step)
        try:
            self._folder.mkdir(exist_ok=True)
            Path(report.folder).rename(folder)
        except OSError as error:  # the trainer has written two more since
            log.warning("checkpoint already removed", run_id=self._claim.run_id, step=report.step, error=str(error))
            return
        if self._waiting is not None:
            shutil.rmtree(self._waiting[1], ignore_errors=True)
        self._waiting = report.step, folder

    def tend(self) -> None:
        """Start to store a waiting checkpoint, one at a time, and record one that has been stored. Does not block."""
        if self._storing is not None and self._storing.done():
            self._note(self._storing)
            self._storing = None
        if self._storing is None and self._waiting is not None:
            (step, folder), self._waiting = self._waiting, None
            self._storing = self._pool.submit(self._store, step, folder)

    def settle(self) -> None:
        """Store the remaining checkpoint and wait for it: the attempt is over and another will resume from it."""
        while self._storing is not None or self._waiting is not None:
            self.tend()
            if self._storing is not None:
                self._storing.exception()

    def close(self) -> None:
        """Stop. Waits for the file in transfer, which must not appear after the others have been removed."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _store(self, step: int, folder: Path) -> StoredCheckpoint:
        prefix = f"{attempts.checkpoint_prefix(self._claim.run_id)}/{self._claim.epoch}-{step}"
        names = {STATE_FILE: sha256(folder / STATE_FILE)}
        names |= _Names.model_validate_json((folder / STATE_FILE).read_bytes()).files
        size = sum((folder / name).stat().st_size for name in names)
        try:
            for name in names:
                if self._closed:
                    raise _Closed
                self._files.put(folder / name, f"{prefix}/{name}")
        except Exception:
            with suppress(Exception):  # it is removed with the run
                self._files.remove(prefix)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return StoredCheckpoint(step=step, prefix=prefix, files=names, bytes=size)

    def _note(self, storing: Future[StoredCheckpoint]) -> None:
        try:
            stored = storing.result()
        except Exception as error:
            log.warning("checkpoint not stored", run_id=self._claim.run_id, error=str(error))
            return
        dropped: list[StoredCheckpoint] = []

        def keep(session: Session) -> None:
            dropped[:] = attempts.checkpointed(session, self._claim, stored)

        self._write(keep)
        try:
            for old in dropped:
                self._files.remove(old.prefix)
        except Exception as error:  # they are removed with the run
            log.warning("old checkpoint not removed", run_id=self._claim.run_id, error=str(error))


class _Names(BaseModel):
    """The part of a checkpoint's state that the supervisor reads: the other files and their hashes."""

    files: dict[str, str]
