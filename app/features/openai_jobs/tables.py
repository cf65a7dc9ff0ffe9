"""Fine-tuning jobs of the API in OpenAI's form."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.features.openai_jobs.rules import JobError, JobRequest
from app.store.database.base import IDS_ARE_NEVER_REUSED, Base, now
from app.store.database.owned import Asked
from app.store.database.seen import UNFILTERED


class FineTuningJobRow(Asked, Base):
    """A job: first its files become a dataset, then its run is queued. Ids without foreign keys, since upload, dataset
    and run may be deleted while the job stays."""

    __tablename__ = "fine_tuning_jobs"
    seen = UNFILTERED
    """Of the jobs, a user sees their own (`app.features.openai_jobs.queries`)."""
    __table_args__ = IDS_ARE_NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(default=None, index=True)
    """The job's user. Only this user and admins see it."""
    request_json: Mapped[dict[str, Any]]
    upload_id: Mapped[int]
    """Of its files."""
    dataset_id: Mapped[int | None] = mapped_column(default=None)
    run_id: Mapped[int | None] = mapped_column(default=None)
    status: Mapped[str] = mapped_column(String(20), default="validating_files", index=True)
    """`validating_files`, `submitted` (its run says more), `failed` or `cancelled` before there was a run."""
    error_json: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)
    """Of a job that ended without a run, or whose run was deleted."""

    @property
    def request(self) -> JobRequest:
        """As it was sent."""
        return JobRequest.model_validate(self.request_json)

    @property
    def error(self) -> JobError | None:
        """Why it failed without a run."""
        return JobError.model_validate(self.error_json) if self.error_json else None
