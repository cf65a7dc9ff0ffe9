"""How a supervised attempt ends: write its result and artifacts, or its failure, or queue the run again.

Exactly one outcome is written. Artifacts go under the attempt's own prefix first, then the result that names them, so
a result never names a file that is missing.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from app.domain.failures import FAILURES, Failure, FailureCode, RunFailed
from app.domain.messages import _
from app.domain.resources.devices import VisibleGpu
from app.domain.runs.job import FailureReport, ResultReport
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.services.runs import attempts
from app.services.runs.attempts import Claim, Fenced
from app.store.runs import queries as runs
from worker.children.child import EXIT_ABANDONED, EXIT_STOPPED
from worker.context import Context
from worker.machine import disk, nvidia
from worker.machine.gpu_watch import LOST
from worker.training.checkpoints import Checkpoints
from worker.training.host import TrainerProcess
from worker.training.lease import Lease, LeaseLost

log = structlog.get_logger()

CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
STORE_AGAIN_SECONDS = (1.0, 4.0, 15.0)
"""Pauses between the attempts to store a file."""


class Outcome:
    """Writes how one attempt ended."""

    def __init__(self, context: Context, claim: Claim, lease: Lease, checkpoints: Checkpoints) -> None:
        self._context, self._claim, self._lease, self._checkpoints = context, claim, lease, checkpoints
        self._oom_kills_before = _oom_kills()
        self.shared_seconds: float | None = None
        """Its share of the time of its group so far; None for a run that trains alone."""

    def write(
        self, report: ResultReport | FailureReport | None, trainer: TrainerProcess, output: Path, *, stalled: bool
    ) -> None:
        """Write the outcome of a trainer that has ended; `report` is its final report, if it sent one.

        Raises Fenced, LeaseLost.
        """
        claim, bell, orders = self._claim, self._context.bell, self._lease.orders
        if isinstance(report, ResultReport):
            self._finish(report.result, output)
        elif (isinstance(report, FailureReport) or not self._lease.ordered) and (lost := self._lost_gpus()):
            self._log_errors(trainer)
            self._retry(FailureCode.DEVICE_LOST, lost)
        elif isinstance(report, FailureReport):
            self._log_errors(trainer)
            if report.failure.out_of_memory and self.shared_seconds is not None:
                self.train_alone(report.failure.message)
            else:
                self.fail(report.failure)
        elif orders.cancel:
            seconds = self.shared_seconds
            self._lease.write(lambda session: attempts.stop(session, bell, claim, shared_seconds=seconds))
        elif orders.drain or orders.pause:
            self._lease.while_renewing(self._checkpoints.settle)
            self.hand_back(f"{claim.worker} is shutting down" if orders.drain else "it was paused")
        elif self.shared_seconds is not None:  # another run of the group may be the cause
            self._log_errors(trainer)
            ended = f"the trainer of its group ended with status {trainer.exit_status(0)}"
            self.train_alone(FAILURES[FailureCode.STALLED] if stalled else ended)
        elif stalled:
            self.fail(Failure(code=FailureCode.STALLED, message=FAILURES[FailureCode.STALLED]))
        elif (status := trainer.exit_status(0)) < 0 or status in (EXIT_STOPPED, EXIT_ABANDONED):  # ended from outside
            self._retry(FailureCode.HOST_OOM if _oom_kills() > self._oom_kills_before else FailureCode.KILLED)
        else:
            self._log_errors(trainer)
            message = _(
                "The trainer ended with status %(status)s. %(why)s", status=status, why=FAILURES[FailureCode.INTERNAL]
            )
            self.fail(Failure(code=FailureCode.INTERNAL, message=message))

    def fail(self, failure: Failure) -> None:
        """Write why the run failed. Raises Fenced, LeaseLost."""
        bell, seconds = self._context.bell, self.shared_seconds
        self._lease.write(lambda session: attempts.fail(session, bell, self._claim, failure, seconds))

    def hand_back(self, why: str) -> None:
        """Queue the run again; the attempt does not count. Raises Fenced, LeaseLost."""
        self._lease.write(lambda session: attempts.hand_back(session, self._context.bell, self._claim, why))

    def train_alone(self, why: str) -> None:
        """Queue a run of a group again, from its last checkpoint: a run that was claimed before is in no group, and the
        attempt does not count. Raises Fenced, LeaseLost."""
        self._lease.while_renewing(self._checkpoints.settle)
        self.hand_back(f"{why.rstrip('.')}; the run trains alone from now on")

    def remove_unused_files(self) -> None:
        """Remove the files of every attempt except the one that succeeded, as the database records it."""
        try:
            with self._context.database.reading() as session:
                run = runs.get(session, self._claim.run_id)
            successful_epoch = run.epoch if run.status == RunStatus.SUCCEEDED else None
            if RunStatus(run.status).terminal:
                self._context.files.remove(attempts.checkpoint_prefix(self._claim.run_id))
            for epoch in range(1, self._claim.epoch + 1):
                if epoch != successful_epoch:
                    self._context.files.remove(self._prefix(epoch))
        except Exception as error:  # whatever database and store raise: the run has ended
            log.warning("files of lost attempts could not be removed", run_id=self._claim.run_id, error=str(error))

    def _finish(self, result: RunResult, output: Path) -> None:
        """Store the artifacts under this attempt's own prefix, then write the result that names them."""
        stored = {file.name: f"{self._prefix(self._claim.epoch)}/{file.name}" for file in result.artifacts}
        for name, place in stored.items():
            self._store(output / name, place)
        bell, seconds = self._context.bell, self.shared_seconds
        self._lease.write(lambda session: attempts.finish(session, bell, self._claim, result, stored, seconds))

    def _lost_gpus(self) -> list[str]:
        """The GPUs of the attempt that the driver no longer lists; this process stops using them."""
        lost: list[str] = []
        if self._claim.gpus:
            self._lease.while_renewing(lambda: lost.extend(filter(nvidia.is_lost, self._claim.gpus)))
        for uuid in lost:
            self._context.trainers.lose(uuid)
        return lost

    def _retry(self, code: FailureCode, lost: Sequence[str] = ()) -> None:
        """Queue the run again, from its last checkpoint, unless it has had all its attempts."""
        self._retry_after(Failure(code=code, message=FAILURES[code]), lost)

    def _retry_after(self, failure: Failure, lost: Sequence[str] = ()) -> None:
        limit = self._context.settings.max_attempts
        self._lease.while_renewing(self._checkpoints.settle)
        bell, gone = self._context.bell, [VisibleGpu(uuid=uuid, problem=LOST) for uuid in lost]
        self._lease.write(lambda session: attempts.retry(session, bell, self._claim, failure, limit, gone))

    def _store(self, file: Path, place: str) -> None:
        """Put a file into the store; retry a store that is busy."""
        for pause in (*STORE_AGAIN_SECONDS, None):
            try:
                self._lease.while_renewing(lambda: self._context.files.put(file, place))
                return
            except (Fenced, LeaseLost):
                raise
            except Exception as error:  # botocore's errors are no OSError
                if disk.is_full(error) and (store := self._context.files.directory) is not None:
                    raise disk.full(store, file.stat().st_size) from error
                if pause is None:
                    raise
                log.warning("a file could not be stored; retrying", file=place, error=str(error))
                self._lease.while_renewing(partial(time.sleep, pause))

    def _log_errors(self, trainer: TrainerProcess) -> None:
        log.error("trainer failed", run_id=self._claim.run_id, stderr=trainer.last_errors())

    def _prefix(self, epoch: int) -> str:
        return f"runs/{self._claim.run_id}/{epoch}"


def failure_of(error: Exception, folder: Path) -> Failure:
    """The failure to record for an exception in the supervisor. `folder`: the attempt's."""
    if isinstance(error, RunFailed):
        return Failure(code=error.code, message=error.message)
    if disk.is_full(error):
        full = disk.full(disk.place(error, folder))
        return Failure(code=full.code, message=full.message)
    why = f"{type(error).__name__}: {error}"
    message = _("%(what)s (%(why)s)", what=FAILURES[FailureCode.INTERNAL], why=why)
    return Failure(code=FailureCode.INTERNAL, message=message)


def _oom_kills() -> int:
    """Number of processes of this container that the kernel's OOM killer has killed."""
    try:
        lines = CGROUP_EVENTS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
