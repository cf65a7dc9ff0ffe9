"""Runs: one wide row each, so that the list of runs needs no join for what it shows and sorts by.

An imported run (`collection_id`) is a row too, so that it is listed, filtered, sorted and compared like the others. It
references no base model and no dataset, belongs to no study, and has no spec.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.errors import Conflict
from app.domain.failures import Failure, FailureCode
from app.domain.imports.reported import ReportedRun
from app.domain.imports.result import ImportedResult
from app.domain.messages import _
from app.domain.methods import Family
from app.domain.resources.ledger import Ledger
from app.domain.resources.memory_fit import StoredEstimate
from app.domain.runs.checkpoint import StoredCheckpoint
from app.domain.runs.listing import groups
from app.domain.runs.result import RunResult
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.studies.tuning.search_space import Configuration
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.owned import Owned
from app.store.database.queued import WAITING_RUNS, QueuedRun

LISTED = (
    "status",
    "failure_code",
    "trial_round",
    "collection_id",
    "metric",
    "method_kind",
    "arm",
    "task",
    "study_id",
    "base_model_id",
    "dataset_id",
    "seed",
    "rank",
    "learning_rate",
    "score",
    "base_score",
    "validation_score",
    "loss",
    "train_loss",
    "peak_bytes",
    "estimated_bytes",
    "train_seconds",
    "wall_seconds",
    "tokens_per_second",
    "trainable_parameters",
    "total_parameters",
    "artifact_bytes",
    "step",
    "finished_at",
    "private_to",
)
"""Columns of the index of lists, after the group and the id."""


def _about(context: Any) -> groups.About:
    """The facts of a row that is being inserted: its spec, or the file of an imported run."""
    values = context.get_current_parameters()
    return groups.About(
        method=values["method_kind"],
        spec=values["spec_json"],
        outside=values.get("imported_json"),
        trial_round=values.get("trial_round"),
        base_model_id=values.get("base_model_id"),
        dataset_id=values.get("dataset_id"),
        collection_id=values.get("collection_id"),
    )


HAS_NOTE = text("note <> ''")
IS_ARCHIVED = text("archived")
"""Conditions of partial indexes, verbatim and without bound values: otherwise SQLite does not use the index."""


class RunRow(Owned, QueuedRun, Base):
    """A run: its spec, its progress, its result."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("studies.id"), default=None, index=True)
    arm: Mapped[str] = mapped_column(String(60), default="")
    seed: Mapped[int] = mapped_column(BigInteger)
    trial_round: Mapped[int | None] = mapped_column(default=None)
    """The round of tuning that it is a trial of, from 0; None for a run that counts in a verdict. A trial has no
    score on the test split."""
    trial_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """What it is a trial of, an `app.domain.studies.tuning.search_space.Configuration`; None for a run that counts."""
    method_kind: Mapped[str] = mapped_column(String(40), index=True)
    base_model_id: Mapped[int | None] = mapped_column(ForeignKey("base_models.id"), index=True, default=None)
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id"), index=True, default=None)
    learning_rate: Mapped[float | None]
    """None only of an imported run whose file does not state it."""
    spec_json: Mapped[dict[str, Any]]
    """Empty for an imported run."""

    # from elsewhere
    collection_id: Mapped[int | None] = mapped_column(ForeignKey("collections.id"), default=None, index=True)
    """Collection of an imported run; None for a run that was trained here."""
    imported_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """The contents of the file, an `ImportedResult`; of a run that a script reports, a `ReportedRun`."""
    imported_hash: Mapped[str | None] = mapped_column(String(64), default=None)
    """Hash of a file's contents, or of the key by which a script finds its run: a collection has each once."""
    heard_at: Mapped[datetime | None] = mapped_column(default=None)
    """When its script last reported, by the database's clock; None of a run that no script reports."""

    # what lists group, filter and sort by, derived from the spec at insertion
    group_key: Mapped[str] = mapped_column(String(groups.DIGITS), default=lambda context: _about(context).key)
    """The same for runs that differ only by their seed."""
    family: Mapped[Family] = mapped_column(String(20), default=lambda context: _about(context).family)
    """It decides the colour and the marker in charts."""
    task: Mapped[str] = mapped_column(String(40), default=lambda context: _about(context).task)
    """Empty for an imported run."""
    rank: Mapped[int | None] = mapped_column(default=lambda context: _about(context).rank)

    # notes; tags are in run_tags
    note: Mapped[str] = mapped_column(default="")
    archived: Mapped[bool] = mapped_column(default=False)
    """Lists hide archived runs by default; a study's runs are archived with their study."""

    # the queue
    status: Mapped[str] = mapped_column(String(20), default=RunStatus.QUEUED.value)
    epoch: Mapped[int] = mapped_column(default=0)
    """Number of the attempt; a write with an older number changes no row."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Attempts that count against `max_attempts`; drained attempts do not."""
    reported: Mapped[int] = mapped_column(default=0)
    """Number of the attempt's last report, so that a repeated report is not written twice."""
    worker: Mapped[str | None] = mapped_column(String(120), default=None)
    lease_expires_at: Mapped[datetime | None] = mapped_column(default=None)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(default=None)
    queued_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)

    # device time, for quotas (app.domain.resources.device_time)
    reserved_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    """Device-seconds that were predicted when it was queued; 0 without an owner. They are reserved while it is live."""
    attempt_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    """Device-seconds of its last attempt, up to its last report."""
    charged_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    """Device-seconds of all its attempts that have ended."""

    # progress
    phase: Mapped[str | None] = mapped_column(String(20), default=None)
    downloaded_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Bytes of the base model that have arrived from the hub so far; None if the worker has it."""
    download_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Total bytes of that download."""
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int | None] = mapped_column(default=None)
    train_loss: Mapped[float | None] = mapped_column(default=None)
    train_seconds: Mapped[float | None] = mapped_column(default=None)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    validation_score: Mapped[float | None] = mapped_column(default=None)
    """The metric of the verdict on the validation split; None where it needs generated text."""
    checkpoints_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    """The newest checkpoints, oldest first, as `app.domain.runs.checkpoint.StoredCheckpoint`."""

    # result
    metric: Mapped[str] = mapped_column(String(20))
    """Metric of the three scores."""
    score: Mapped[float | None] = mapped_column(default=None)
    """Score of the adapted model on the test split, from 0 to 1."""
    base_score: Mapped[float | None] = mapped_column(default=None)
    """Score of the base model."""
    loss: Mapped[float | None] = mapped_column(default=None)
    trainable_parameters: Mapped[int | None] = mapped_column(BigInteger, default=None)
    total_parameters: Mapped[int | None] = mapped_column(BigInteger, default=None)
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    wall_seconds: Mapped[float | None] = mapped_column(default=None)
    shared_seconds: Mapped[float | None] = mapped_column(default=None)
    """Its share of the time of the group that it trains in, 0 until it has ended. Such a run has no times and no peak
    memory of its own."""
    artifact_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    tokens_per_second: Mapped[float | None] = mapped_column(default=None)
    device_name: Mapped[str | None] = mapped_column(String(200), default=None)
    precision: Mapped[str | None] = mapped_column(String(10), default=None)
    """Precision of the computation: `fp32` or `bf16`."""
    libraries: Mapped[str | None] = mapped_column(String(100), default=None)
    """Library versions on which memory depends, from `app.domain.runs.result.Environment.libraries`."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    failure_code: Mapped[str | None] = mapped_column(String(40), default=None)
    failure_message: Mapped[str | None] = mapped_column(default=None)
    failure_ledger_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    failure_requested_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Bytes by owner when memory ran out, an `app.domain.resources.ledger.Ledger`."""

    # estimate
    estimate_id: Mapped[int | None] = mapped_column(ForeignKey("estimates.id"), default=None, index=True)
    estimated_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Peak, copied from the estimate once it is ready, so that calibration needs one query."""
    estimated_flops: Mapped[float | None] = mapped_column(default=None)
    """FLOPs of the whole training; may exceed 64-bit integers."""
    stored_estimates_json: Mapped[list[dict[str, Any]] | None] = mapped_column(default=None)
    """What was estimated for it and its device, oldest first, as `app.domain.resources.memory_fit.StoredEstimate`; only
    ever appended to."""

    __table_args__ = (
        Index("ix_runs_status_id", "status", "id"),
        Index("ix_runs_score_id", "score", "id"),
        Index("ix_runs_peak_bytes_id", "peak_bytes", "id"),
        Index("ix_runs_train_seconds_id", "train_seconds", "id"),
        Index("ix_runs_device_name_precision_id", "device_name", "precision", "id"),
        UniqueConstraint("collection_id", "imported_hash"),
        # all that a list filters, sorts and groups by, without the wide columns: docs/decisions/0011
        Index("ix_runs_list", "group_key", "id", *LISTED),
        Index("ix_runs_groups", "group_key", "seed", "score", "id"),
        Index("ix_runs_noted", "id", sqlite_where=HAS_NOTE, postgresql_where=HAS_NOTE),
        Index("ix_runs_archived", "id", sqlite_where=IS_ARCHIVED, postgresql_where=IS_ARCHIVED),
        WAITING_RUNS,
        IDS_ARE_NEVER_REUSED,
    )

    @property
    def imported(self) -> bool:
        """Measured elsewhere: it has only a result."""
        return self.collection_id is not None

    @property
    def imported_result(self) -> ImportedResult | ReportedRun | None:
        """The contents of an imported run's file, or what a script has reported."""
        return self.reported_run or (ImportedResult.model_validate(self.imported_json) if self.imported_json else None)

    @property
    def reported_run(self) -> ReportedRun | None:
        """What a script has reported; None of a run that was trained here or imported."""
        return ReportedRun.model_validate(self.imported_json) if self.heard_at else None

    @property
    def spec(self) -> RunSpec:
        """The spec. Raises Conflict for an imported run, which has none."""
        if self.imported:
            raise Conflict(
                _("Run %(id)s was imported. It has a result, but no spec that could be run here.", id=self.id)
            )
        return RunSpec.model_validate(self.spec_json)

    @property
    def configuration(self) -> Configuration:
        """What it is a trial of."""
        return Configuration.model_validate(self.trial_json or {})

    @property
    def cancel_requested(self) -> bool:
        return self.cancel_requested_at is not None

    @property
    def result(self) -> RunResult | None:
        """The result, once the run succeeded."""
        return RunResult.model_validate(self.result_json) if self.result_json else None

    @property
    def device_seconds(self) -> float:
        """How long it occupied a device: its share of a group's time, or the wall time of its attempt, or without one
        the time from its start to its end; 0 until it has ended."""
        for seconds in (self.shared_seconds, self.wall_seconds):
            if seconds:
                return seconds
        return (self.finished_at - self.started_at).total_seconds() if self.started_at and self.finished_at else 0.0

    @property
    def checkpoints(self) -> tuple[StoredCheckpoint, ...]:
        """The newest checkpoints, oldest first."""
        return tuple(StoredCheckpoint.model_validate(c) for c in self.checkpoints_json)

    @property
    def stored_estimates(self) -> tuple[StoredEstimate, ...]:
        """What was estimated for it, oldest first."""
        return tuple(StoredEstimate.model_validate(stored) for stored in self.stored_estimates_json or ())

    @property
    def failure(self) -> Failure | None:
        """Why the run failed; None if it did not."""
        if self.failure_code is None:
            return None
        ledger = Ledger.model_validate(self.failure_ledger_json) if self.failure_ledger_json else None
        return Failure(
            code=FailureCode(self.failure_code),
            message=self.failure_message or "",
            ledger=ledger,
            requested_bytes=self.failure_requested_bytes,
        )

    @property
    def download(self) -> tuple[int, int] | None:
        """Downloaded and total bytes of the base model in this attempt; None without a download."""
        if self.downloaded_bytes is None or self.download_bytes is None:
            return None
        return self.downloaded_bytes, self.download_bytes

    @property
    def eta_seconds(self) -> float | None:
        """Estimated seconds of training that are left, at the pace so far."""
        if self.status != RunStatus.RUNNING or not self.step or not self.total_steps or self.train_seconds is None:
            return None
        return self.train_seconds / self.step * (self.total_steps - self.step)
