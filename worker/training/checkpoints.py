"""An attempt's checkpoints between its trainer's disk and the files store.

A trainer leaves a checkpoint on its disk and reports it. Its folder is moved out of the trainer's way, so that it stays
however long the store takes; it is stored in a thread of its own, so that cancel and lease do not wait for it, and
counts once the database knows of it. The newest two stay in the store: should one be damaged, the next attempt goes on
from the other.

A checkpoint that cannot be stored or read costs no run, whatever the store raises: botocore's errors are no OSError.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.runs.checkpoint import STATE_FILE, StoredCheckpoint
from app.domain.runs.job import CheckpointReport
from app.services import attempts
from app.services.attempts import Claim
from app.store.files import Files, sha256

log = structlog.get_logger()

Write = Callable[[Callable[[Session], None]], None]
"""Carry out a change of the database, waiting for it as long as the lease lasts."""


class _Closed(Exception):
    """No more is wanted."""


class Checkpoints:
    """Of one attempt. `folder` is on the disk that its trainer writes to."""

    def __init__(self, files: Files, claim: Claim, write: Write, folder: Path) -> None:
        self._files, self._claim, self._write, self._folder = files, claim, write, folder
        self._waiting: tuple[int, Path] | None = None
        """Steps behind the one that waits, and where it lies."""
        self._storing: Future[StoredCheckpoint] | None = None
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")

    def fetch(self, folder: Path) -> tuple[Path | None, list[str]]:
        """The newest checkpoint that is whole, in `folder`, and a sentence for each that is not."""
        notes: list[str] = []
        for stored in reversed(self._claim.checkpoints):
            target = folder / f"resume-{stored.step}"
            try:
                for name, digest in stored.files.items():
                    self._files.get(f"{stored.prefix}/{name}", target / name)
                    if sha256(target / name) != digest:
                        raise ValueError(f"{name} is not as it was written")
                return target, notes
            except Exception as error:
                log.warning(
                    "a checkpoint cannot be used", run_id=self._claim.run_id, step=stored.step, error=str(error)
                )
                notes.append(f"The checkpoint of step {stored.step} cannot be used: {error}.")
        return None, notes

    def take(self, report: CheckpointReport) -> None:
        """A trainer has left a checkpoint. One that still waits for its turn is passed over."""
        ours = self._folder / str(report.step)
        try:
            self._folder.mkdir(exist_ok=True)
            Path(report.folder).rename(ours)
        except OSError as error:  # the trainer has left two more since
            log.warning("a checkpoint is gone", run_id=self._claim.run_id, step=report.step, error=str(error))
            return
        if self._waiting is not None:
            shutil.rmtree(self._waiting[1], ignore_errors=True)
        self._waiting = report.step, ours

    def tend(self) -> None:
        """Store what waits, one at a time; note what has been stored. Never waits itself."""
        if self._storing is not None and self._storing.done():
            self._note(self._storing)
            self._storing = None
        if self._storing is None and self._waiting is not None:
            (step, folder), self._waiting = self._waiting, None
            self._storing = self._pool.submit(self._store, step, folder)

    def settle(self) -> None:
        """Store what is left, and wait for it: the attempt is over and will be gone on with."""
        while self._storing is not None or self._waiting is not None:
            self.tend()
            if self._storing is not None:
                self._storing.exception()

    def close(self) -> None:
        """No more. Waits for the file that is under way: it must not appear when the others have been removed."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _store(self, step: int, folder: Path) -> StoredCheckpoint:
        prefix = f"{attempts.checkpoint_prefix(self._claim.run_id)}/{self._claim.epoch}-{step}"
        names = {STATE_FILE: sha256(folder / STATE_FILE)}
        names |= _Names.model_validate_json((folder / STATE_FILE).read_bytes()).files
        for name in names:
            if self._closed:
                raise _Closed
            self._files.put(folder / name, f"{prefix}/{name}")
        shutil.rmtree(folder, ignore_errors=True)
        return StoredCheckpoint(step=step, prefix=prefix, files=names)

    def _note(self, storing: Future[StoredCheckpoint]) -> None:
        try:
            stored = storing.result()
        except Exception as error:
            log.warning("a checkpoint could not be stored", run_id=self._claim.run_id, error=str(error))
            return
        dropped: list[StoredCheckpoint] = []

        def keep(session: Session) -> None:
            dropped[:] = attempts.checkpointed(session, self._claim, stored)

        self._write(keep)
        try:
            for old in dropped:
                self._files.remove(old.prefix)
        except Exception as error:  # they go with the run
            log.warning("an old checkpoint could not be removed", run_id=self._claim.run_id, error=str(error))


class _Names(BaseModel):
    """What the supervisor reads of a checkpoint's state: the other files and their hashes."""

    files: dict[str, str]
