"""Export studies to the installation's tracker, each in a child process (`worker.trackers.child`)."""

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import structlog

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.services import tracker_exports
from app.services.tracker_exports import EXPORT_SECONDS, RENEW_SECONDS, Claim
from worker.children.host import Child, ChildError, ChildInterrupted

if TYPE_CHECKING:
    from worker.context import Context

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.trackers.child")


def export_due(context: "Context") -> int:
    """Export one study after another, until none is due; the number of attempts."""
    write, seconds, attempts = context.database.write, context.settings.tracker_live_seconds, 0
    if seconds:
        write(tracker_exports.go_live)
    while (claim := write(partial(tracker_exports.begin, live=seconds > 0))) is not None:
        attempts += 1
        about = {"study": claim.study_id, "external": claim.external, "attempt": claim.number}
        try:
            url = _exported(context, claim)
        except ChildInterrupted:
            write(partial(tracker_exports.give_back, claim=claim))
            break
        except Exception as error:
            why = tracker_exports.reason(error, claim.study_id)
            log.warning("not exported", **about, why=str(why))
            write(partial(tracker_exports.failed, claim=claim, why=why, live_seconds=seconds))
        else:
            log.info("exported", **about, url=url)
            write(partial(tracker_exports.succeeded, claim=claim, url=url, live_seconds=seconds))
    return attempts


def _exported(context: "Context", claim: Claim) -> str:
    """Where the study is in the tracker. Raises ChildError, and Unavailable with what the child said."""
    settings = context.settings
    request = {
        "study": claim.study_id,
        "external": claim.external,
        "live": claim.live,
        "to": settings.tracker,
        "server": settings.url,
        "token": settings.tracker_token.get_secret_value(),
    }
    settings.home.mkdir(parents=True, exist_ok=True)
    answer = Child.ask_once(
        "tracker",
        COMMAND,
        request,
        EXPORT_SECONDS,
        json.loads,
        directory=settings.home,
        meanwhile=partial(_renew, context, claim),
        every=RENEW_SECONDS,
    )
    if "error" in answer:
        raise Unavailable(answer["error"])
    return str(answer["url"])


def _renew(context: "Context", claim: Claim) -> None:
    if not context.database.write(partial(tracker_exports.renew, claim=claim)):
        raise ChildError(_("The study was deleted, or another attempt exports it."))
