"""One attempt, supervised: a trainer process, the lease, cancel and drain, and how it ended.

The trainer knows no database. What it reports is buffered here and written about once a second, together with the
renewal of the lease; if the database is away longer than the lease lasts, or the run has passed on to another
attempt, the trainer is ended and nothing more is written.
"""

import errno
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.domain.errors import Unavailable
from app.domain.failures import FAILURES, Failure, FailureCode, RunFailed
from app.domain.runs.job import (
    CheckpointReport,
    FailureReport,
    LogReport,
    Report,
    ResultReport,
    TrainJob,
)
from app.domain.runs.result import RunResult
from app.domain.runs.status import RunStatus
from app.services import attempts
from app.services.attempts import Claim, Fenced, Orders
from app.services.models import location_of
from app.store.queries import runs
from worker.context import Context
from worker.training.checkpoints import Checkpoints
from worker.training.host import TrainerProcess
from worker.training.protocol import EXIT_ABANDONED, EXIT_STOPPED
from worker.training.workdir import workdir

log = structlog.get_logger()

CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
STORE_AGAIN_SECONDS = (1.0, 4.0, 15.0)
LINGER_SECONDS = 10.0
"""A trainer that has reported its end may take so long to go."""


class LeaseLost(Exception):
    """The database did not answer for as long as the lease lasts."""


def supervise(context: Context, claim: Claim) -> None:
    """Execute a claimed run to whatever end it comes to, and write that end once."""
    logger = log.bind(run_id=claim.run_id, epoch=claim.epoch)
    with workdir(context.settings.home) as folder:
        attempt = _Attempt(context, claim, folder)
        try:
            attempt.run()
        except Fenced as fenced:
            logger.warning("the attempt is no longer ours, nothing more is written", reason=fenced.message)
        except LeaseLost:
            logger.error("the database was away longer than the lease; the sweeper will queue the run again")
        except Exception as error:
            logger.exception("the attempt could not be supervised")
            with suppress(Fenced, LeaseLost):
                attempt.fail(_failure_of(error))
        attempt.checkpoints.close()
        attempt.remove_unused_files()


class _Attempt:
    """The state of one supervised attempt."""

    def __init__(self, context: Context, claim: Claim, folder: Path) -> None:
        self.context, self.claim, self.folder = context, claim, folder
        self.settings = context.settings
        self.pending: list[Report] = []
        self.sending: list[Report] | None = None
        """Reports on their way, until the database has answered: sent again under the same number, they count once."""
        self.number = 0
        self.orders = Orders(cancel=False, drain=False)
        self.renewed_at = time.monotonic()
        self.progress_at = time.monotonic()
        self.stop_asked_at: float | None = None
        self.stalled = False
        self.end: ResultReport | FailureReport | None = None
        self.checkpoints = Checkpoints(context.files, claim, self._write, folder / "checkpoints")

    def run(self) -> None:
        """From the job file to the run's end."""
        oom_before = _oom_kills()
        job = self._prepare()
        trainer = self.context.trainers.start(job, self.folder, self.settings.lease_seconds)
        log.info("trainer started", run_id=self.claim.run_id, epoch=self.claim.epoch, pid=trainer.pid)
        try:
            while not trainer.finished_reporting:
                self._take(trainer.reports(self.settings.report_seconds))
                self._exchange(trainer)
                self.checkpoints.tend()
                self._enforce(trainer)
            status = trainer.exit_status(LINGER_SECONDS)
        finally:
            trainer.kill()
        while self.pending or self.sending is not None:
            self._persist(self._flush)
        self._conclude(status, trainer, oom_killed=_oom_kills() > oom_before)

    def _prepare(self) -> TrainJob:
        """Fetch the dataset and write down what the trainer needs. Raises RunFailed."""
        dataset = self._fetch(self.claim.dataset_file, "dataset.parquet")
        general = self._fetch(self.claim.general_file, "general.parquet") if self.claim.general_file else None
        try:
            location = location_of(self.claim.model_source, self.claim.model_location)
        except Unavailable as error:
            raise RunFailed(FailureCode.MODEL_UNAVAILABLE, error.message) from error
        found: list[tuple[Path | None, list[str]]] = []
        self._while_renewing(lambda: found.append(self.checkpoints.fetch(self.folder)))
        [(resume, notes)] = found
        self.pending += [LogReport(message=note) for note in notes]
        output = self.folder / "output"
        output.mkdir()
        return TrainJob(
            run_id=self.claim.run_id,
            epoch=self.claim.epoch,
            spec=self.claim.spec,
            model_location=location,
            model_fingerprint=self.claim.model_revision,
            model_files=self.claim.model_files,
            model_revision=self.claim.model_revision if self.claim.model_source == "hub" else "",
            dataset_file=dataset,
            dataset_format=self.claim.dataset_format,
            labels=self.claim.labels,
            trial=self.claim.trial,
            general_file=general,
            output=str(output),
            cache=str(self.settings.home / "cache"),
            cache_bytes=self.settings.cache_bytes,
            resume=str(resume) if resume else None,
            checkpoint_seconds=self.settings.checkpoint_seconds,
            weight_delta_seconds=self.settings.weight_delta_seconds,
            device=self.settings.device,
            threads=self.settings.threads,
            claimed_at=self.claim.claimed_at.timestamp(),
        )

    def _fetch(self, file: str, name: str) -> str:
        """A dataset's file out of the store, into the attempt's folder; its path. Raises RunFailed."""
        here = self.folder / name
        try:
            self._while_renewing(lambda: self.context.files.get(file, here))
        except (Fenced, LeaseLost):
            raise
        except Exception as error:  # whatever the store raises: botocore's are no OSError
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            code = FailureCode.DISK_FULL if full else FailureCode.DATASET_UNAVAILABLE
            raise RunFailed(code, f"{FAILURES[code]} ({error})") from error
        return str(here)

    def _take(self, reports: list[Report]) -> None:
        for report in reports:
            self.progress_at = time.monotonic()
            if isinstance(report, ResultReport | FailureReport):
                self.end = report
            elif isinstance(report, CheckpointReport):
                self.checkpoints.take(report)
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
        if self.sending is None:
            self.sending, self.pending = self.pending, []
            self.number += 1
        lease = self.settings.lease_seconds
        with self.context.database.transaction() as session:
            self.orders = attempts.report(session, self.claim, self.number, self.sending, lease)
        self.sending = None
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
            self.fail(self.end.failure)
        elif self.orders.cancel:
            self._write(lambda session: attempts.stop(session, bell, claim))
        elif self.orders.drain:
            self._while_renewing(self.checkpoints.settle)
            why = f"{claim.worker} is shutting down"
            self._write(lambda session: attempts.hand_back(session, bell, claim, why))
        elif self.stalled:
            self.fail(Failure(code=FailureCode.STALLED, message=FAILURES[FailureCode.STALLED]))
        elif status < 0 or status in (EXIT_STOPPED, EXIT_ABANDONED):  # ended from outside, not by its own doing
            code = FailureCode.HOST_OOM if oom_killed else FailureCode.KILLED
            failure, most = Failure(code=code, message=FAILURES[code]), self.settings.max_attempts
            self._while_renewing(self.checkpoints.settle)
            self._write(lambda session: attempts.retry(session, bell, claim, failure, most))
        else:
            self._keep_errors(trainer)
            message = f"The trainer ended with status {status}. {FAILURES[FailureCode.INTERNAL]}"
            self.fail(Failure(code=FailureCode.INTERNAL, message=message))

    def _store_result(self, result: RunResult) -> None:
        """Store the artifacts under this attempt's own prefix, then write the result that names them."""
        stored = {file.name: f"{self._prefix(self.claim.epoch)}/{file.name}" for file in result.artifacts}
        for name, place in stored.items():
            self._store(self.folder / "output" / name, place)
        self._write(lambda session: attempts.finish(session, self.context.bell, self.claim, result, stored))

    def _store(self, file: Path, place: str) -> None:
        """Put a file into the store; a store that is busy is asked again."""
        for pause in (*STORE_AGAIN_SECONDS, None):
            try:
                self._while_renewing(lambda: self.context.files.put(file, place))
                return
            except (Fenced, LeaseLost):
                raise
            except Exception as error:  # botocore's are no OSError
                if pause is None or getattr(error, "errno", None) == errno.ENOSPC:
                    raise
                log.warning("a file could not be stored; trying again", file=place, error=str(error))
                self._while_renewing(partial(time.sleep, pause))

    def _while_renewing(self, transfer: Callable[[], None]) -> None:
        """Do what may take longer than the lease, and keep the lease meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            moving = pool.submit(transfer)
            while not wait([moving], timeout=self.settings.report_seconds).done:
                self._persist(self._flush)
        moving.result()

    def remove_unused_files(self) -> None:
        """Of a run's attempts only the one that succeeded keeps its files; the database says which."""
        try:
            with self.context.database.reading() as session:
                run = runs.get(session, self.claim.run_id)
            kept = run.epoch if run.status == RunStatus.SUCCEEDED else None
            if RunStatus(run.status).terminal:
                self.context.files.remove(attempts.checkpoint_prefix(self.claim.run_id))
            for epoch in range(1, self.claim.epoch + 1):
                if epoch != kept:
                    self.context.files.remove(self._prefix(epoch))
        except Exception as error:  # whatever database and store raise: the run has ended
            log.warning("files of lost attempts could not be removed", run_id=self.claim.run_id, error=str(error))

    def _prefix(self, epoch: int) -> str:
        return f"runs/{self.claim.run_id}/{epoch}"

    def fail(self, failure: Failure) -> None:
        """Write why the run failed. Raises Fenced, LeaseLost."""
        self._write(lambda session: attempts.fail(session, self.context.bell, self.claim, failure))

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


def _failure_of(error: Exception) -> Failure:
    """What an exception in the supervisor means for its run."""
    if isinstance(error, RunFailed):
        return Failure(code=error.code, message=error.message)
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    code = FailureCode.DISK_FULL if full else FailureCode.INTERNAL
    return Failure(code=code, message=f"{FAILURES[code]} ({type(error).__name__}: {error})")


def _oom_kills() -> int:
    """How many processes of this container the kernel has ended for want of memory."""
    try:
        lines = CGROUP_EVENTS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
