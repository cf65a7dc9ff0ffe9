"""An attempt's checkpoints between its trainer's disk and the files store.

A trainer leaves a checkpoint on its disk and reports it; it is stored in a thread of its own, so that cancel and lease
do not wait for it, and counts once the database knows of it. The newest two stay: should one be damaged, the next
attempt goes on from the other.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from app.domain.checkpoints import STATE_FILE, StoredCheckpoint
from app.domain.errors import NotFound
from app.domain.jobs import CheckpointReport
from app.services import attempts
from app.services.attempts import Claim
from app.store.files import Files, sha256

log = structlog.get_logger()

Write = Callable[[Callable[[Session], None]], None]
"""Carry out a change of the database, waiting for it as long as the lease lasts."""


class Checkpoints:
    """Of one attempt."""

    def __init__(self, files: Files, claim: Claim, write: Write) -> None:
        self._files, self._claim, self._write = files, claim, write
        self._waiting: CheckpointReport | None = None
        self._storing: Future[StoredCheckpoint] | None = None
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
            except (NotFound, ValueError, OSError) as error:
                notes.append(f"The checkpoint of step {stored.step} cannot be used: {error}.")
        return None, notes

    def take(self, report: CheckpointReport) -> None:
        """A trainer has left a checkpoint. One that still waits for its turn is passed over."""
        self._waiting = report

    def tend(self) -> None:
        """Store what waits, one at a time; note what has been stored. Never waits itself."""
        if self._storing is not None and self._storing.done():
            self._note(self._storing)
            self._storing = None
        if self._storing is None and self._waiting is not None:
            report, self._waiting = self._waiting, None
            self._storing = self._pool.submit(self._store, report)

    def settle(self) -> None:
        """Store what is left, and wait for it: the attempt is over and will be gone on with."""
        while self._storing is not None or self._waiting is not None:
            self.tend()
            if self._storing is not None:
                self._storing.exception()

    def close(self) -> None:
        """No more; what is under way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _store(self, report: CheckpointReport) -> StoredCheckpoint:
        folder = Path(report.folder)
        prefix = f"{attempts.checkpoint_prefix(self._claim.run_id)}/{self._claim.epoch}-{report.step}"
        names = {STATE_FILE: sha256(folder / STATE_FILE)}
        names |= _Names.model_validate_json((folder / STATE_FILE).read_bytes()).files
        for name in names:
            self._files.put(folder / name, f"{prefix}/{name}")
        return StoredCheckpoint(step=report.step, prefix=prefix, files=names)

    def _note(self, storing: Future[StoredCheckpoint]) -> None:
        try:
            stored = storing.result()
        except (OSError, ValidationError) as error:
            log.warning("a checkpoint could not be stored", run_id=self._claim.run_id, error=str(error))
            return
        dropped: list[StoredCheckpoint] = []

        def keep(session: Session) -> None:
            dropped[:] = attempts.checkpointed(session, self._claim, stored)

        self._write(keep)
        try:
            for old in dropped:
                self._files.remove(old.prefix)
        except OSError as error:  # they go with the run
            log.warning("an old checkpoint could not be removed", run_id=self._claim.run_id, error=str(error))


class _Names(BaseModel):
    """What the supervisor reads of a checkpoint's state: the other files and their hashes."""

    files: dict[str, str]
