"""The supervisor's source of trainers: a spare is kept warm, with the ML libraries imported and nothing else done.

Each trainer executes one run, so that every run has a fresh interpreter (docs/decisions/0006-warm-spare.md). It sees
only the GPUs of its run: CUDA reads CUDA_VISIBLE_DEVICES once, perhaps as early as an import, so a process is started
with it. A worker has a pool child for each GPU, and each pool child keeps a spare for its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import GroupJob, TrainJob
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
        self._visible: dict[str, str] | None = None

    def use(self, visible: Mapping[str, str], place: int) -> None:
        """Start trainers that see a GPU each. `visible`: the values of CUDA_VISIBLE_DEVICES by UUID; the spare is for
        the GPU at `place`, counted from 0 again behind the last."""
        gpus = list(visible.items())
        first = place % len(gpus)
        self._visible = dict(gpus[first:] + gpus[:first])

    def lose(self, uuid: str) -> None:
        """Stop using a GPU."""
        if self._visible is not None and self._visible.pop(uuid, None) is not None:
            self.end()  # the spare may be for it

    @property
    def gpus(self) -> tuple[str, ...] | None:
        """UUIDs of the GPUs to use, the spare's first; None on a CPU."""
        return None if self._visible is None else tuple(self._visible)

    @property
    def spare(self) -> TrainerProcess | None:
        """The trainer that waits for a job, or None."""
        return self._spare

    def warm_up(self) -> None:
        """Start the spare if it is enabled and not running."""
        if not self._keep_spare or self._spare is not None:
            return
        try:
            self._spare = TrainerProcess(self._command, self._environment((self.gpus or ())[:1]))
        except ChildError as error:  # no memory for another process; the current run must not suffer
            log.warning("no spare trainer could be started; the next run waits for a fresh one", error=error.message)

    def start(
        self,
        job: TrainJob | GroupJob,
        folder: Path,
        lease_seconds: float,
        gpus: Sequence[str] = (),
        hub: HubAccess | None = None,
    ) -> TrainerProcess:
        """Give a job to the spare, or to a new trainer if there is none, and start the next spare.

        The trainer sees these `gpus` (UUIDs) and no other; all of the machine if none is named. `folder` receives the
        attempt's files, and `hub` opens the base model. Raises ChildError if no process can be started.
        """
        environment = self._environment(gpus)
        trainer = self._take(environment)
        if trainer is not None and not trainer.hand_over(job, folder, lease_seconds, hub):
            trainer.kill()
            trainer = None
        if trainer is None:
            trainer = TrainerProcess(self._command, environment)
            trainer.hand_over(job, folder, lease_seconds, hub)
        self.warm_up()
        return trainer

    def end(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()

    def _environment(self, gpus: Sequence[str]) -> dict[str, str]:
        """The environment variables that show a trainer only these GPUs."""
        visible = [(self._visible or {})[uuid] for uuid in gpus]
        return {"CUDA_VISIBLE_DEVICES": ",".join(visible)} if visible else {}

    def _take(self, environment: dict[str, str]) -> TrainerProcess | None:
        """The spare, if it is still usable."""
        spare = self._spare
        if spare is not None and spare.alive and spare.environment == child_environment() | environment:
            self._spare = None
            return spare
        self.end()
        return None
