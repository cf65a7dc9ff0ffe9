"""Runs: one wide row each, so that the list of runs needs no join for what it shows and sorts by.

A run that was imported (`collection_id`) is one of them, so that it is listed, filtered, sorted and compared like the
others. It has neither a base model nor a dataset of ours, belongs to no study, and its spec is asked for in vain.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.errors import Conflict
from app.domain.failures import Failure, FailureCode
from app.domain.imports.result import ImportedResult
from app.domain.messages import _
from app.domain.methods import Family
from app.domain.resources.ledger import Ledger
from app.domain.runs import groups
from app.domain.runs.checkpoint import StoredCheckpoint
from app.domain.runs.result import RunResult
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.store.tables.base import IDS_ARE_NEVER_REUSED, Base, now

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
    "started_at",
    "finished_at",
)
"""Columns of the index of lists, after the group and the id."""


def _about(context: Any) -> groups.About:
    """What is asked of a row that is being inserted, or what it says from elsewhere."""
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


class RunRow(Base):
    """A run: what was asked, where it stands, what came out."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("studies.id"), default=None, index=True)
    arm: Mapped[str] = mapped_column(String(60), default="")
    seed: Mapped[int] = mapped_column(BigInteger)
    trial_round: Mapped[int | None] = mapped_column(default=None)
    """The round of tuning that it is a trial of, from 0; None for a run that counts in a verdict. A trial has no
    score on the test split."""
    method_kind: Mapped[str] = mapped_column(String(40), index=True)
    base_model_id: Mapped[int | None] = mapped_column(ForeignKey("base_models.id"), index=True, default=None)
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id"), index=True, default=None)
    learning_rate: Mapped[float | None]
    """None only of an imported run whose file does not say."""
    spec_json: Mapped[dict[str, Any]]
    """Empty of an imported run."""

    # from elsewhere
    collection_id: Mapped[int | None] = mapped_column(ForeignKey("collections.id"), default=None, index=True)
    """Of an imported run; None of one that was trained here."""
    imported_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """What the file says, as `app.domain.imports.result.ImportedResult`."""
    imported_hash: Mapped[str | None] = mapped_column(String(64), default=None)
    """Of what it says: within a collection a result is there once."""

    # what lists group, filter and sort by, read once from what was asked for
    group_key: Mapped[str] = mapped_column(String(groups.DIGITS), default=lambda context: _about(context).key)
    """Runs that are alike but for their seed have the same."""
    family: Mapped[Family] = mapped_column(String(20), default=lambda context: _about(context).family)
    """What its colour and its marker stand for."""
    task: Mapped[str] = mapped_column(String(40), default=lambda context: _about(context).task)
    """Empty of an imported run."""
    rank: Mapped[int | None] = mapped_column(default=lambda context: _about(context).rank)

    # what people wrote on it; its tags are in run_tags
    note: Mapped[str] = mapped_column(default="")
    archived: Mapped[bool] = mapped_column(default=False)
    """Lists hide it unless asked; a study's runs are archived with their study."""

    # the queue
    status: Mapped[str] = mapped_column(String(20), default=RunStatus.QUEUED.value)
    epoch: Mapped[int] = mapped_column(default=0)
    """Number of the attempt; a write that carries an older one finds no row."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Attempts that count against `max_attempts`; one that was drained does not."""
    reported: Mapped[int] = mapped_column(default=0)
    """Number of the attempt's last report: one whose answer was lost is not written twice."""
    worker: Mapped[str | None] = mapped_column(String(120), default=None)
    lease_expires_at: Mapped[datetime | None] = mapped_column(default=None)
    rung_at: Mapped[datetime | None] = mapped_column(default=None)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(default=None)
    queued_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)

    # progress
    phase: Mapped[str | None] = mapped_column(String(20), default=None)
    downloaded_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Of the base model, while it is fetched from the hub; None where the worker had it."""
    download_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Of which the worker lacked so many."""
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int | None] = mapped_column(default=None)
    train_loss: Mapped[float | None] = mapped_column(default=None)
    train_seconds: Mapped[float | None] = mapped_column(default=None)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    validation_score: Mapped[float | None] = mapped_column(default=None)
    """The metric of the verdict on the validation split; None where it needs generated text."""
    checkpoints_json: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    """The newest checkpoints, oldest first, as `app.domain.runs.checkpoint.StoredCheckpoint`."""

    # what came out
    metric: Mapped[str] = mapped_column(String(20))
    """What the three scores are."""
    score: Mapped[float | None] = mapped_column(default=None)
    """Of the adapted model on the test split, from 0 to 1."""
    base_score: Mapped[float | None] = mapped_column(default=None)
    """Of the base model."""
    loss: Mapped[float | None] = mapped_column(default=None)
    trainable_parameters: Mapped[int | None] = mapped_column(BigInteger, default=None)
    total_parameters: Mapped[int | None] = mapped_column(BigInteger, default=None)
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    wall_seconds: Mapped[float | None] = mapped_column(default=None)
    artifact_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    tokens_per_second: Mapped[float | None] = mapped_column(default=None)
    device_name: Mapped[str | None] = mapped_column(String(200), default=None)
    precision: Mapped[str | None] = mapped_column(String(10), default=None)
    """`fp32` or `bf16`: what it computed in."""
    libraries: Mapped[str | None] = mapped_column(String(100), default=None)
    """Versions on which memory depends, as `app.domain.runs.result.Environment.libraries` writes them."""
    result_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    failure_code: Mapped[str | None] = mapped_column(String(40), default=None)
    failure_message: Mapped[str | None] = mapped_column(default=None)
    failure_ledger_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    failure_requested_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Who held what when memory ran out, as `app.domain.resources.ledger.Ledger`."""

    # what was predicted
    estimate_id: Mapped[int | None] = mapped_column(ForeignKey("estimates.id"), default=None, index=True)
    estimated_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """The peak, copied from the estimate once it is ready: calibration is one query."""
    estimated_flops: Mapped[float | None] = mapped_column(default=None)
    """Of the whole training; of a large model, more than 64 bits hold."""

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
        IDS_ARE_NEVER_REUSED,
    )

    @property
    def imported(self) -> bool:
        """It was trained elsewhere, and only its result is here."""
        return self.collection_id is not None

    @property
    def imported_result(self) -> ImportedResult | None:
        """What the file of an imported run says."""
        return ImportedResult.model_validate(self.imported_json) if self.imported_json else None

    @property
    def spec(self) -> RunSpec:
        """What was asked for. Raises Conflict for an imported run: there is nothing that could be run."""
        if self.imported:
            raise Conflict(
                _("Run %(id)s was imported. It has a result, but no spec that could be run here.", id=self.id)
            )
        return RunSpec.model_validate(self.spec_json)

    @property
    def cancel_requested(self) -> bool:
        """It was cancelled, while it was queued or while it was running."""
        return self.cancel_requested_at is not None

    @property
    def result(self) -> RunResult | None:
        """What came out, once it succeeded."""
        return RunResult.model_validate(self.result_json) if self.result_json else None

    @property
    def checkpoints(self) -> tuple[StoredCheckpoint, ...]:
        """The newest, oldest first."""
        return tuple(StoredCheckpoint.model_validate(c) for c in self.checkpoints_json)

    @property
    def failure(self) -> Failure | None:
        """Why it failed, if it did."""
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
        """Bytes of the base model that this attempt has fetched, and of how many; None where it need not."""
        if self.downloaded_bytes is None or self.download_bytes is None:
            return None
        return self.downloaded_bytes, self.download_bytes

    @property
    def eta_seconds(self) -> float | None:
        """Estimated seconds of training that are left, at the pace so far."""
        if self.status != RunStatus.RUNNING or not self.step or not self.total_steps or self.train_seconds is None:
            return None
        return self.train_seconds / self.step * (self.total_steps - self.step)
