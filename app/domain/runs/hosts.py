"""The hosts of a run that trains on several: what its first host knows of each other one."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.domain.failures import Failure, FailureCode

HostEnd = Literal["done", "stopped", "failed", "unable", "killed", "lost", "released"]
"""Its part is done · it has stopped with the others · it has failed, and so does the run · it cannot begin now, and
the run waits · a process was killed, or its worker lost, and the run is tried again · the attempt ended before it
joined."""


class HostState(BaseModel):
    """A further host of an attempt, as its worker last wrote it."""

    model_config = ConfigDict(frozen=True)

    worker: str
    joined: bool
    ready: bool
    """Its processes have started."""
    expired: bool
    """It has joined, and has not renewed its lease since."""
    draining: bool
    """Its worker was told to stop before its part was done, or before it joined."""
    ended: HostEnd | None
    failure: Failure | None

    @property
    def lost(self) -> bool:
        """Its processes were killed, or nothing is heard of it."""
        return self.ended in ("killed", "lost") or (self.ended is None and self.expired)

    @property
    def going_on(self) -> bool:
        """Its processes may still run."""
        return self.joined and self.ended is None and not self.expired


def blamed(own: Failure | None, others: Sequence[HostState]) -> Failure | None:
    """The failure of a run on several hosts: of those of its hosts, the one that did not only follow from another.

    A process that ends breaks the connections of all others, which then fail with an internal error. So any other code
    wins, then what does not speak of a connection, then the first host's.
    """
    failures = [own] if own else []
    for other in others:
        if other.failure is not None and other.ended == "failed":
            message = f"{other.worker}: {other.failure.message}"
            failures.append(other.failure.model_copy(update={"message": message}))
    return min(failures, key=_follows, default=None)


_CONNECTION = ("gloo", "nccl", "connection", "broken pipe", "tcpstore")


def of_connection(failure: Failure) -> bool:
    """It only tells that another process is gone."""
    return failure.code == FailureCode.INTERNAL and any(word in failure.message.lower() for word in _CONNECTION)


def _follows(failure: Failure) -> int:
    if failure.code != FailureCode.INTERNAL:
        return 0
    return 2 if of_connection(failure) else 1
