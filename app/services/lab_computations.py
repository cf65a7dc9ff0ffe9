"""What a worker computes for the Lab: request it, and read the stored answer. The same request is computed once."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.domain.lab.computations import LabAnswer, LabRequest
from app.queue import Doorbell
from app.services.resources import estimates
from app.store.queries import estimates as rows


@dataclass(frozen=True)
class Computation:
    """A request and where its answer stands."""

    request: LabRequest
    state: Literal["none", "working", "ready", "failed"] = "none"
    """`none`: it was not requested yet."""
    message: str = ""
    """Why it failed."""
    answer: LabAnswer | None = None


def stored(session: Session, request: LabRequest) -> Computation:
    """What is known of a request."""
    row = rows.by_keys(session, [request.key]).get(request.key)
    return Computation(request, row.state, row.message, row.lab) if row else Computation(request)


def start(session: Session, bell: Doorbell, request: LabRequest) -> None:
    """Have a worker compute an answer that is not stored yet."""
    estimates.wanted(session, bell, request)
