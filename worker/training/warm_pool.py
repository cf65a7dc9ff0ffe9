"""The supervisor's source of trainers: a spare is kept warm, with the ML libraries imported and nothing else done.

Each trainer executes one run, so that every run has a fresh interpreter (docs/decisions/0006-warm-spare.md).
"""

from collections.abc import Sequence
from pathlib import Path

import structlog

from app.domain.runs.job import TrainJob
from worker.children.environment import child_environment
from worker.children.host import ChildError
from worker.training.host import COMMAND, TrainerProcess

log = structlog.get_logger()


class WarmPool:
    """Starts trainers by `command`; with `keep_spare` the next one is always started ahead of time.

    Use it from a thread that lives as long as the worker, such as the main thread of a Celery pool child: the kernel
    kills a trainer when the thread that started it ends.
    """

    def __init__(self, command: Sequence[str] = COMMAND, *, keep_spare: bool = False) -> None:
        self._command, self._keep_spare = tuple(command), keep_spare
        self._spare: TrainerProcess | None = None

    @property
    def spare(self) -> TrainerProcess | None:
        """The trainer that waits for a job, or None."""
        return self._spare

    def warm_up(self) -> None:
        """Start the spare if it is enabled and not running."""
        if not self._keep_spare or self._spare is not None:
            return
        try:
            self._spare = TrainerProcess(self._command)
        except ChildError as error:  # no memory for another process; the current run must not suffer
            log.warning("no spare trainer could be started; the next run waits for a fresh one", error=error.message)

    def start(self, job: TrainJob, folder: Path, lease_seconds: float) -> TrainerProcess:
        """Give a job to the spare, or to a new trainer if there is none, and start the next spare.

        `folder` receives the attempt's files. Raises ChildError if no process can be started.
        """
        trainer = self._take()
        if trainer is not None and not trainer.hand_over(job, folder, lease_seconds):
            trainer.kill()
            trainer = None
        if trainer is None:
            trainer = TrainerProcess(self._command)
            trainer.hand_over(job, folder, lease_seconds)
        self.warm_up()
        return trainer

    def end(self) -> None:
        """Kill the spare."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()

    def _take(self) -> TrainerProcess | None:
        """The spare, if it is still usable."""
        spare = self._spare
        if spare is not None and spare.alive and spare.environment == child_environment():
            self._spare = None
            return spare
        self.end()
        return None
