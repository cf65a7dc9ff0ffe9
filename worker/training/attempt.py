"""One supervised attempt: prepare its job, take its reports, renew its lease, write its outcome.

`worker.training.lease` writes to the database, `worker.training.outcome` writes how the attempt ended, and
`worker.training.supervisor` follows the trainer.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.domain.errors import Unavailable
from app.domain.failures import FAILURES, FailureCode, RunFailed
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import (
    AloneReport,
    CheckpointReport,
    FailureReport,
    LogReport,
    Report,
    ResultReport,
    StoppedReport,
    TrainJob,
    WorkingReport,
)
from app.services.ownership.vault import Vault
from app.services.runs.attempts import Claim, Fenced
from app.services.users import hub_tokens
from app.store.files.files import StoreUnavailable
from worker.machine import disk
from worker.nodes.context import Context
from worker.samples.host import load_from
from worker.training.checkpoints import Checkpoints
from worker.training.host import TrainerProcess
from worker.training.lease import Lease, LeaseLost
from worker.training.outcome import STORE_AGAIN_SECONDS, Outcome

log = structlog.get_logger()

FETCH_AGAIN_SECONDS = (*STORE_AGAIN_SECONDS, 60.0)
"""Pauses between the attempts to fetch a file while the store is away. Then the run is handed back; the last pause
keeps an idle worker from claiming it again at once."""


class SupervisedAttempt:
    def __init__(self, context: Context, claim: Claim, folder: Path) -> None:
        self.context, self.claim, self.folder = context, claim, folder
        self.settings = context.settings
        self.lease = Lease(
            context.database,
            claim,
            lease_seconds=self.settings.lease_seconds,
            renew_seconds=self.settings.report_seconds,
        )
        self.checkpoints = Checkpoints(context.files, claim, self.lease.write, folder / "checkpoints")
        self.outcome = Outcome(context, claim, self.lease, self.checkpoints, folder / "output")
        self.stop_requested_at: float | None = None
        self.stalled = False
        self.stopped = False
        """A run of a group has stopped on request."""
        self.alone: str | None = None
        """Why a run of a group is to train by itself."""
        self.fetched: dict[str, str] = {}
        """Local copies of files in the store; the runs of a group share them."""
        self.final_report: ResultReport | FailureReport | None = None
        self.hub: HubAccess | None = None

    @property
    def over(self) -> bool:
        """Whether this run of a group has ended in its trainer, which continues with the others."""
        return self.final_report is not None or self.stopped or self.alone is not None

    def prepare(self) -> TrainJob:
        """Fetch the dataset and build the trainer's job. Raises RunFailed, StoreUnavailable."""
        dataset = self._fetch(self.claim.dataset_file, "dataset.parquet")
        general = self._fetch(self.claim.general_file, "general.parquet") if self.claim.general_file else None
        locations: list[str] = []
        source, home = (self.claim.model_source, self.claim.model_location), self.settings.home
        try:  # a packaged model may have to be converted first
            self.lease.while_renewing(lambda: locations.append(load_from(*source, home)))
            if self.claim.hub_user is not None:
                self.lease.write(self._read_hub_token)
        except Unavailable as error:
            raise RunFailed(FailureCode.MODEL_UNAVAILABLE, error.message) from error
        [location] = locations
        fetched: list[tuple[Path | None, list[str]]] = []
        self._from_store(lambda: fetched.append(self.checkpoints.fetch(self.folder)))
        [(resume, notes)] = fetched
        for note in notes:
            self.lease.report(LogReport(message=note))
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
            stop_seconds=self.settings.stop_seconds,
            weight_delta_seconds=self.settings.weight_delta_seconds,
            device=self.claim.device,
            threads=self.settings.threads,
            claimed_at=self.claim.claimed_at.timestamp(),
        )

    def _read_hub_token(self, session: Session) -> None:
        self.hub = hub_tokens.access_of(session, Vault(self.settings), self.claim.hub_user)

    def _fetch(self, file: str, name: str) -> str:
        """Copy a dataset's file from the store into the attempt's folder and return its path.

        Raises RunFailed, StoreUnavailable.
        """
        if file in self.fetched:
            return self.fetched[file]
        local = self.folder / name
        try:
            self._from_store(lambda: self.context.files.get(file, local))
        except (Fenced, LeaseLost, StoreUnavailable):
            raise
        except Exception as error:  # whatever the store raises: botocore's errors are no OSError
            if disk.is_full(error):
                raise disk.full(self.folder) from error
            code = FailureCode.DATASET_UNAVAILABLE
            raise RunFailed(code, _("%(what)s (%(why)s)", what=FAILURES[code], why=error)) from error
        self.fetched[file] = str(local)
        return str(local)

    def _from_store(self, fetch: Callable[[], None]) -> None:
        """Fetch something; try again while the store is away, unless there is an order. Raises StoreUnavailable."""
        for pause in (*FETCH_AGAIN_SECONDS, None):
            try:
                self.lease.while_renewing(fetch)
                return
            except StoreUnavailable as error:
                if pause is None:
                    raise
                log.warning("the files store is away; retrying", run_id=self.claim.run_id, error=error.message)
                self.lease.pause(pause)
                if self.lease.ordered:
                    raise

    def take(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if isinstance(report, ResultReport | FailureReport):
                self.final_report = report
            elif isinstance(report, StoppedReport):
                self.stopped = True
            elif isinstance(report, AloneReport):
                self.alone = report.why
            elif isinstance(report, CheckpointReport):
                self.checkpoints.take(report)
            elif isinstance(report, WorkingReport):
                continue
            else:
                self.lease.report(report)

    def renew(self, trainer: TrainerProcess) -> None:
        """Write what has been reported and renew the lease, in the database and in the trainer. Raises LeaseLost."""
        if self.lease.due or trainer.finished_reporting:
            try:
                self.lease.renew()
                trainer.renew_lease()
            except OperationalError as error:
                log.warning(f"{self.lease.cause(error)}; reports stay in memory", error=str(error.orig))
                self.lease.raise_if_lost(error)

    def conclude(self, trainer: TrainerProcess) -> None:
        """Write the outcome of a run that its trainer has ended. Raises Fenced, LeaseLost."""
        self.lease.flush()
        self.outcome.apply(self.outcome.decide(self.final_report, trainer, alone=self.alone, stalled=self.stalled))
