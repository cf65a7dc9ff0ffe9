"""How a supervised attempt ends: write its result and artifacts, or its failure, or queue the run again.

Exactly one outcome is written. Artifacts go under the attempt's own prefix first, then the result that names them, so
a result never names a file that is missing.
"""

import time
from functools import partial
from pathlib import Path

import structlog

from app.domain.failures import FAILURES, Failure, FailureCode, RunFailed
from app.domain.messages import _
from app.domain.resources.devices import VisibleGpu
from app.domain.runs.ending import Cancel, Decision, End, Fail, Finish, HandBack, Retry, decide
from app.domain.runs.job import FailureReport, ResultReport
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.services.runs import attempts
from app.services.runs.attempts import Claim, Fenced
from app.store.runs import queries as runs
from worker.children.child import EXIT_ABANDONED, EXIT_STOPPED
from worker.machine import disk, nvidia
from worker.machine.gpu_watch import LOST
from worker.nodes.context import Context
from worker.training.checkpoints import Checkpoints
from worker.training.host import TrainerProcess
from worker.training.lease import Lease, LeaseLost

log = structlog.get_logger()

CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
STORE_AGAIN_SECONDS = (1.0, 4.0, 15.0)
"""Pauses between the attempts to store a file."""


class Outcome:
    """Writes how one attempt ended."""

    def __init__(self, context: Context, claim: Claim, lease: Lease, checkpoints: Checkpoints, output: Path) -> None:
        """`output`: the folder of the trainer's artifacts."""
        self._context, self._claim, self._lease, self._checkpoints = context, claim, lease, checkpoints
        self._output = output
        self._lost: list[str] = []
        """GPUs of the attempt that the driver no longer lists."""
        self._oom_kills_before = _oom_kills()
        self.shared_seconds: float | None = None
        """Its share of the time of its group so far; None for a run that trains alone."""

    def decide(
        self, report: ResultReport | FailureReport | None, trainer: TrainerProcess, *, alone: str | None, stalled: bool
    ) -> Decision:
        """What follows after the trainer has ended, or its part for this run: `report` is its final report, if it sent
        one; `alone`: why the run cannot train in its group. Raises Fenced, LeaseLost."""
        orders = self._lease.orders
        unexplained = report is None and alone is None and not orders
        status = trainer.exit_status(0) if unexplained else 0
        if unexplained or isinstance(report, FailureReport):
            log.error("trainer failed", run_id=self._claim.run_id, stderr=trainer.last_errors())
        if not isinstance(report, ResultReport) and alone is None:
            self._find_lost_gpus()
        end = End(
            worker=self._claim.worker,
            report=report,
            alone=alone,
            status=status,
            killed=status < 0 or status in (EXIT_STOPPED, EXIT_ABANDONED),
            stalled=stalled,
            lost_gpu=bool(self._lost),
            oom_killed=_oom_kills() > self._oom_kills_before,
        )
        return decide(end, orders, others=self.shared_seconds is not None)

    def apply(self, decision: Decision) -> None:
        """Write a decision. Raises Fenced, LeaseLost."""
        bell, claim, seconds = self._context.bell, self._claim, self.shared_seconds
        if isinstance(decision, Retry | HandBack):
            self._lease.while_renewing(self._checkpoints.settle)
        match decision:
            case Finish(result):
                stored = self._stored(result)
                self._lease.write(lambda session: attempts.finish(session, bell, claim, result, stored, seconds))
            case Fail(failure):
                self._lease.write(lambda session: attempts.fail(session, bell, claim, failure, seconds))
            case Cancel():
                self._lease.write(lambda session: attempts.stop(session, bell, claim, shared_seconds=seconds))
            case Retry(failure):
                limit = self._context.settings.max_attempts
                lost = [VisibleGpu(uuid=uuid, problem=LOST) for uuid in self._lost]
                self._lease.write(lambda session: attempts.retry(session, bell, claim, failure, limit, lost))
            case HandBack(why):
                self._lease.write(lambda session: attempts.hand_back(session, bell, claim, why))

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

    def _stored(self, result: RunResult) -> dict[str, str]:
        """Store the artifacts under this attempt's own prefix; gives the place of each."""
        stored = {file.name: f"{self._prefix(self._claim.epoch)}/{file.name}" for file in result.artifacts}
        for name, place in stored.items():
            self._store(self._output / name, place)
        return stored

    def _find_lost_gpus(self) -> None:
        """Find the GPUs of the attempt that the driver no longer lists; this process stops using them."""
        if self._claim.gpus:
            self._lease.while_renewing(lambda: self._lost.extend(filter(nvidia.is_lost, self._claim.gpus)))
        for uuid in self._lost:
            self._context.trainers.lose(uuid)

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
