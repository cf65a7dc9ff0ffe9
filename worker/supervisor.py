"""One attempt, supervised: a trainer process, the lease, cancel and drain, and how it ended.

The trainer knows no database. What it reports is buffered here and written about once a second, together with the
renewal of the lease; if the database is away longer than the lease lasts, or the run has passed on to another
attempt, the trainer is ended and nothing more is written.
"""

import errno
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.domain.errors import VeznaError
from app.domain.jobs import EXIT_STOPPED, FailureReport, Report, ResultReport, TrainJob
from app.domain.metrics import RunResult
from app.domain.runs import FAILURES, Failure, FailureCode
from app.services import attempts
from app.services.attempts import Claim, Fenced, Orders
from app.services.models import location_of
from worker.context import Context
from worker.trainer_process import COMMAND, TrainerProcess

log = structlog.get_logger()

CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
LINGER_SECONDS = 10.0
"""A trainer that has reported its end may take so long to go."""


class LeaseLost(Exception):
    """The database did not answer for as long as the lease lasts."""


def supervise(context: Context, claim: Claim, command: Sequence[str] = COMMAND) -> None:
    """Execute a claimed run to whatever end it comes to, and write that end once. `command` starts a trainer."""
    logger = log.bind(run_id=claim.run_id, epoch=claim.epoch)
    with _workdir(context) as folder:
        try:
            _Attempt(context, claim, folder, command).run()
        except Fenced as fenced:
            logger.warning("the attempt is no longer ours, nothing more is written", reason=fenced.message)
        except LeaseLost:
            logger.error("the database was away longer than the lease; the sweeper will queue the run again")


class _Attempt:
    """The state of one supervised attempt."""

    def __init__(self, context: Context, claim: Claim, folder: Path, command: Sequence[str]) -> None:
        self.context, self.claim, self.folder, self.command = context, claim, folder, command
        self.settings = context.settings
        self.pending: list[Report] = []
        self.orders = Orders(cancel=False, drain=False)
        self.renewed_at = time.monotonic()
        self.progress_at = time.monotonic()
        self.stop_asked_at: float | None = None
        self.stalled = False
        self.end: ResultReport | FailureReport | None = None

    def run(self) -> None:
        """From the job file to the run's end."""
        oom_before = _oom_kills()
        job = self._prepare()
        if isinstance(job, Failure):
            self._fail(job)
            return
        trainer = TrainerProcess(job, self.folder, self.settings.lease_seconds, self.command)
        log.info("trainer started", run_id=self.claim.run_id, epoch=self.claim.epoch, pid=trainer.pid)
        try:
            while not trainer.finished_reporting:
                self._take(trainer.reports(self.settings.report_seconds))
                self._exchange(trainer)
                self._enforce(trainer)
            status = trainer.exit_status(LINGER_SECONDS)
        finally:
            trainer.kill()
        self._persist(self._flush)
        self._conclude(status, trainer, oom_killed=_oom_kills() > oom_before)

    def _prepare(self) -> TrainJob | Failure:
        """Fetch the dataset and write down what the trainer needs."""
        dataset = self.folder / "dataset.parquet"
        try:
            self.context.files.get(self.claim.dataset_file, dataset)
        except (OSError, VeznaError) as error:
            return Failure(
                code=FailureCode.DATASET_UNAVAILABLE,
                message=f"{FAILURES[FailureCode.DATASET_UNAVAILABLE]} ({error})",
            )
        try:
            location = location_of(self.claim.model_source, self.claim.model_location)
        except VeznaError as error:
            return Failure(code=FailureCode.MODEL_UNAVAILABLE, message=error.message)
        output = self.folder / "output"
        output.mkdir()
        return TrainJob(
            run_id=self.claim.run_id,
            epoch=self.claim.epoch,
            spec=self.claim.spec,
            model_location=location,
            model_revision=self.claim.model_revision if self.claim.model_source == "hub" else "",
            dataset_file=str(dataset),
            labels=self.claim.labels,
            output=str(output),
            device=self.settings.device,
            threads=self.settings.threads,
            claimed_at=self.claim.claimed_at.timestamp(),
        )

    def _take(self, reports: list[Report]) -> None:
        for report in reports:
            self.progress_at = time.monotonic()
            if isinstance(report, ResultReport | FailureReport):
                self.end = report
            else:
                self.pending.append(report)

    def _exchange(self, trainer: TrainerProcess) -> None:
        """Write what has been reported, renew the lease here and in the trainer, and hear the orders."""
        due = time.monotonic() - self.renewed_at >= self.settings.report_seconds
        if due or trainer.finished_reporting:
            try:
                self._flush()
                trainer.renew_lease()
            except OperationalError as error:
                log.warning("the database is away; progress is kept", error=str(error.orig))
                if time.monotonic() - self.renewed_at > self.settings.lease_seconds:
                    raise LeaseLost from error

    def _flush(self) -> None:
        with self.context.database.transaction() as session:
            self.orders = attempts.report(session, self.claim, self.pending, self.settings.lease_seconds)
        self.pending.clear()
        self.renewed_at = time.monotonic()

    def _enforce(self, trainer: TrainerProcess) -> None:
        """Carry out the orders: ask to stop, then force it; and end a trainer that makes no progress."""
        moment = time.monotonic()
        if (self.orders.cancel or self.orders.drain) and self.stop_asked_at is None:
            trainer.ask_to_stop()
            self.stop_asked_at = moment
        if self.stop_asked_at is not None and moment - self.stop_asked_at > self.settings.stop_seconds:
            trainer.kill()
        if moment - self.progress_at > self.settings.stall_seconds:
            self.stalled = True
            trainer.kill()

    def _conclude(self, status: int, trainer: TrainerProcess, *, oom_killed: bool) -> None:
        """Write how the attempt ended: exactly one of the ends that a run can come to."""
        claim, bell = self.claim, self.context.bell
        if isinstance(self.end, ResultReport):
            self._store_result(self.end.result)
        elif isinstance(self.end, FailureReport):
            self._keep_errors(trainer)
            self._fail(self.end.failure)
        elif self.orders.cancel:
            self._write(lambda session: attempts.stop(session, claim))
        elif self.orders.drain or status == EXIT_STOPPED:
            why = f"{claim.worker} is shutting down"
            self._write(lambda session: attempts.hand_back(session, bell, claim, why))
        elif self.stalled:
            self._fail(Failure(code=FailureCode.STALLED, message=FAILURES[FailureCode.STALLED]))
        elif status == -signal.SIGKILL:
            code = FailureCode.HOST_OOM if oom_killed else FailureCode.KILLED
            failure, most = Failure(code=code, message=FAILURES[code]), self.settings.max_attempts
            self._write(lambda session: attempts.retry(session, bell, claim, failure, most))
        else:
            self._keep_errors(trainer)
            message = f"The trainer ended with status {status}. {FAILURES[FailureCode.INTERNAL]}"
            self._fail(Failure(code=FailureCode.INTERNAL, message=message))

    def _store_result(self, result: RunResult) -> None:
        """Store the artifacts under this attempt's own prefix, then write the result that names them."""
        prefix = f"runs/{self.claim.run_id}/{self.claim.epoch}"
        stored = {file.name: f"{prefix}/{file.name}" for file in result.artifacts}
        try:
            for name, place in stored.items():
                self.context.files.put(self.folder / "output" / name, place)
                self._persist(self._flush)  # a large file may take longer than the lease
        except OSError as error:
            code = FailureCode.DISK_FULL if error.errno == errno.ENOSPC else FailureCode.INTERNAL
            self._fail(Failure(code=code, message=f"The run's files could not be stored: {error}. {FAILURES[code]}"))
            return
        self._write(lambda session: attempts.finish(session, self.claim, result, stored))

    def _fail(self, failure: Failure) -> None:
        self._write(lambda session: attempts.fail(session, self.claim, failure))

    def _write(self, change: Callable[[Session], None]) -> None:
        def once() -> None:
            with self.context.database.transaction() as session:
                change(session)

        self._persist(once)

    def _persist(self, write: Callable[[], None]) -> None:
        """Write, waiting for the database as long as the lease lasts. Raises LeaseLost."""
        while True:
            try:
                write()
                return
            except OperationalError as error:
                log.warning("the database is away; trying again", error=str(error.orig))
                if time.monotonic() - self.renewed_at > self.settings.lease_seconds:
                    raise LeaseLost from error
                time.sleep(self.settings.report_seconds)

    def _keep_errors(self, trainer: TrainerProcess) -> None:
        log.error("trainer failed", run_id=self.claim.run_id, stderr=trainer.last_errors())


@contextmanager
def _workdir(context: Context) -> Iterator[Path]:
    parent = context.settings.home / "work"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _oom_kills() -> int:
    """How many processes of this container the kernel has ended for want of memory."""
    try:
        lines = CGROUP_EVENTS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
