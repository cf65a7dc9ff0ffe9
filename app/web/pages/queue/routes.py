"""The forms by which an owner pauses, moves and prioritizes waiting runs and studies."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from app.domain.runs.listing.queue import QueueChange
from app.services.workers import queue_order
from app.web.forms.errors import validated
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Bell, Db

router = APIRouter(include_in_schema=False)


@router.post("/queue/{noun}/{row_id:int}")
def change_queue(db: Db, bell: Bell, noun: Literal["runs", "studies"], row_id: int, form: SentForm) -> RedirectResponse:
    """Change a run's or a study's place, and show the page again from which that was sent: `on` names it."""
    sent = {name: form[name] for name in ("paused", "priority", "move") if form.get(name)}
    change = validated(QueueChange, sent)
    act = queue_order.change_run if noun == "runs" else queue_order.change_study
    db.write(lambda session: act(session, bell, row_id, change))
    return RedirectResponse("/workers#queue" if form.get("on") == "workers" else f"/{noun}/{row_id}", 303)
