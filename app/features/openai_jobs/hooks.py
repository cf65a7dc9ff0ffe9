"""What services call of fine-tuning jobs."""

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from app.domain.messages import _
from app.features.openai_jobs import queries
from app.features.openai_jobs.service import advance_waiting
from app.services.hooks import Hooks
from app.store.tables import now


def _keeps_upload(session: Session, upload_id: int) -> str:
    if not (waiting := queries.waiting_for(session, upload_id)):
        return ""
    return _(
        "Fine-tuning job %(job)s is about to train on this upload. Cancel the job, or wait until it has a dataset.",
        job=waiting[0],
    )


def _deleting_runs(session: Session, which: ColumnElement[bool]) -> None:
    queries.runs_deleted(session, which, now())


HOOKS = Hooks(
    keeps_upload=_keeps_upload, joined_upload=queries.any_on, deleting_runs=_deleting_runs, go_on=advance_waiting
)
