"""A further host's part of a run on several, supervised: join, start its processes, renew its lease, and free its GPUs.

The first host's worker decides about the run (`worker.training.supervisor`). Here nothing is written but this host's
own row. Once the run is no longer in this attempt, whatever has ended it (a result, a cancel, a lost lease, another
host), the next renewal says so, and the processes are killed.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from app.domain.failures import FAILURES, Failure, FailureCode, RunFailed
from app.domain.messages import _
from app.domain.resources.devices import VisibleGpu
from app.domain.runs.hosts import HostEnd
from app.domain.runs.job import FailureReport, Report, TrainJob
from app.services.runs.attempts import Claim, Fenced, hosts
from app.store.files.files import StoreUnavailable
from worker.children.child import EXIT_STOPPED
from worker.context import Context
from worker.machine import nvidia
from worker.machine.gpu_watch import LOST
from worker.training.checkpoints import Checkpoints
from worker.training.lease import Lease, LeaseLost
from worker.training.outcome import failure_of
from worker.training.supervisor import LINGER_SECONDS, SupervisedAttempt
from worker.training.workdir import workdir

log = structlog.get_logger()


def supervise_part(context: Context, joined: Claim) -> None:
    """Execute a part that was joined, and write once how it ended."""
    logger = log.bind(run_id=joined.run_id, epoch=joined.epoch, host=joined.host)
    with workdir(context.settings.home) as folder:
        part = _Part(context, joined, folder)
        try:
            ended, failure = part.execute()
        except Fenced:
            logger.info("the attempt has ended")
            ended, failure = "stopped", None
        except LeaseLost as lost:
            logger.error(f"{lost}; the lease has run out, so the sweep will end this part")
            return
        except StoreUnavailable as error:
            ended, failure = "unable", Failure(code=FailureCode.DATASET_UNAVAILABLE, message=error.message)
        except Exception as error:
            logger.exception("the part could not be supervised")
            ended, failure = "failed", failure_of(error, folder)
        part.leave(ended, failure)


class _PartLease(Lease):
    """The lease on a part. It has no reports to write: rank 0 has."""

    ready = False
    """The processes have started."""

    def report(self, report: Report) -> None:
        """Leave it to rank 0."""

    def renew(self) -> None:
        """Renew it. Raises Fenced, OperationalError."""
        with self._database.transaction() as session:
            self.orders = hosts.renew(session, self._claim, self._lease_seconds, ready=self.ready)
        self._renewed_at = time.monotonic()


class _Part(SupervisedAttempt):
    """The state of a supervised part."""

    def __init__(self, context: Context, joined: Claim, folder: Path) -> None:
        super().__init__(context, joined, folder)
        seconds = {"lease_seconds": self.settings.lease_seconds, "renew_seconds": self.settings.report_seconds}
        self.lease: _PartLease = _PartLease(context.database, joined, **seconds)

    def execute(self) -> tuple[HostEnd, Failure | None]:
        """Follow the processes to their end. Raises Fenced, LeaseLost, StoreUnavailable, RunFailed."""
        job = self._prepare_to_meet()
        trainer = self.context.trainers.start(job, self.folder, self.settings.lease_seconds, self.claim.gpus, self.hub)
        log.info("part started", run_id=self.claim.run_id, epoch=self.claim.epoch, pid=trainer.pid)
        self.lease.ready = True
        failure: Failure | None = None
        try:
            while not trainer.finished_reporting:
                for report in trainer.reports(self.settings.report_seconds):
                    if isinstance(report, FailureReport):
                        failure = report.failure
                self.renew(trainer)
            status = trainer.exit_status(LINGER_SECONDS)
        finally:
            trainer.kill()
        if failure is not None or status not in (0, EXIT_STOPPED):
            log.error("part failed", run_id=self.claim.run_id, stderr=trainer.last_errors())
        if failure is not None:
            return "failed", failure
        return ("killed", None) if status not in (0, EXIT_STOPPED) else ("stopped" if status else "done", None)

    def _prepare_to_meet(self) -> TrainJob:
        """The job, once rank 0 can be met. The files are those with which rank 0 begins."""
        found: list[tuple[str, str | None] | None] = [None]
        while found[-1] is None:
            self.lease.refresh()
            self.lease.write(lambda session: found.append(hosts.rendezvous(session, self.claim)))
            if found[-1] is None:
                time.sleep(self.settings.report_seconds)
        endpoint, prefix = found[-1]
        self.claim = replace(self.claim, checkpoints=tuple(c for c in self.claim.checkpoints if c.prefix == prefix))
        self.checkpoints = Checkpoints(self.context.files, self.claim, self.lease.write, self.folder / "checkpoints")
        job = self.prepare()
        if prefix is not None and job.resume is None:
            text = _(
                "%(worker)s cannot read the checkpoint from which the run resumes. Check that all workers share "
                "VEZNA_FILES_URL.",
                worker=self.claim.worker,
            )
            raise RunFailed(FailureCode.INTERNAL, text)
        assert job.place is not None  # noqa: S101 of several hosts
        return job.model_copy(update={"place": job.place.model_copy(update={"endpoint": endpoint})})

    def leave(self, ended: HostEnd, failure: Failure | None) -> None:
        """Write how it ended, and free the GPUs, unless the lease is lost: then the sweep does."""
        lost: Sequence[str] = []
        if ended in ("failed", "killed") and (lost := [uuid for uuid in self.claim.gpus if nvidia.is_lost(uuid)]):
            code = FailureCode.DEVICE_LOST
            ended, failure = "killed", Failure(code=code, message=FAILURES[code])
        for uuid in lost:
            self.context.trainers.lose(uuid)
        gone = tuple(VisibleGpu(uuid=uuid, problem=LOST) for uuid in lost)
        bell, joined = self.context.bell, self.claim
        try:
            self.lease.write(lambda session: hosts.leave(session, bell, joined, ended, failure, gone))
        except LeaseLost as error:
            log.error(f"{error}; the sweep will end this part", run_id=self.claim.run_id)
        self.checkpoints.close()
