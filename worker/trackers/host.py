"""Export studies that have ended to the installation's tracker, each in a child process (`worker.trackers.child`)."""

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import structlog

from app.domain.errors import Unavailable
from app.services import tracker_exports
from app.services.tracker_exports import EXPORT_SECONDS
from app.settings import Settings
from worker.children.host import Child, ChildInterrupted

if TYPE_CHECKING:
    from worker.context import Context

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.trackers.child")


def export_due(context: "Context") -> int:
    """Export one study after another, until none is due; the number of attempts."""
    write, attempts = context.database.write, 0
    while (claim := write(tracker_exports.begin)) is not None:
        attempts += 1
        try:
            url = _exported(context.settings, claim.study_id)
        except ChildInterrupted:
            write(partial(tracker_exports.give_back, claim=claim))
            break
        except Exception as error:
            why = tracker_exports.reason(error, claim.study_id)
            log.warning("not exported", study=claim.study_id, attempt=claim.number, why=str(why))
            write(partial(tracker_exports.failed, claim=claim, why=why))
        else:
            log.info("exported", study=claim.study_id, url=url)
            write(partial(tracker_exports.succeeded, claim=claim, url=url))
    return attempts


def _exported(settings: Settings, study_id: int) -> str:
    """Where the study is in the tracker. Raises ChildError, and Unavailable with what the child said."""
    request = {
        "study": study_id,
        "to": settings.tracker,
        "server": settings.url,
        "token": settings.tracker_token.get_secret_value(),
    }
    settings.home.mkdir(parents=True, exist_ok=True)
    answer = Child.ask_once("tracker", COMMAND, request, EXPORT_SECONDS, json.loads, directory=settings.home)
    if "error" in answer:
        raise Unavailable(answer["error"])
    return str(answer["url"])
