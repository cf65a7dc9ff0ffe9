"""What a worker computes for the Lab: request it, and read the stored answer. The same request is computed once."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.domain.errors import Forbidden, TooMany
from app.domain.lab.computations import LabAnswer, LabRequest
from app.domain.messages import _
from app.queue import Doorbell
from app.services.resources import estimates
from app.store.queries import clock
from app.store.queries import estimates as rows

MOST_WAITING = 30
"""Computations of the Lab that wait for a worker at once. Each takes about ten seconds."""
RETRY_SECONDS = 60


@dataclass(frozen=True)
class Computation:
    """A request and where its answer stands."""

    request: LabRequest
    state: Literal["none", "working", "ready", "failed"] = "none"
    """`none`: it was not requested yet."""
    message: str = ""
    """Why it failed."""
    answer: LabAnswer | None = None
    again_seconds: float = 0.0
    """Until a failed computation may be requested again."""


def stored(session: Session, request: LabRequest) -> Computation:
    """What is known of a request."""
    row = rows.by_keys(session, [request.key]).get(request.key)
    if row is None:
        return Computation(request)
    again = (estimates.again_at(row) - clock.now(session)).total_seconds() if row.state == "failed" else 0.0
    return Computation(request, row.state, row.message, row.lab, max(0.0, again))


def start(session: Session, bell: Doorbell, request: LabRequest, *, may_run: bool) -> None:
    """Have a worker compute an answer that is not stored yet. Raises Forbidden for what a viewer cannot request, and
    TooMany if too much waits."""
    if not may_run and request.members_only:
        raise Forbidden(request.members_only)
    if not rows.by_keys(session, [request.key]) and rows.queued(session, "lab") >= MOST_WAITING:
        raise TooMany(_("Too many computations of the Lab wait for a worker. Try again in a minute."), RETRY_SECONDS)
    estimates.wanted(session, bell, request)
