"""How an attempt ends: what its trainer left behind, and what follows for the run."""

from dataclasses import dataclass

from app.domain.failures import FAILURES, Failure, FailureCode
from app.domain.messages import _
from app.domain.runs.job import FailureReport, ResultReport
from app.domain.runs.result import RunResult


@dataclass(frozen=True)
class Orders:
    """The database's answer to a report."""

    cancel: bool = False
    """The run was cancelled."""
    drain: bool = False
    """The worker was told to stop and hands the run back."""
    pause: bool = False
    """The run was paused: the worker hands it back, and goes on with another."""

    def __bool__(self) -> bool:
        """The trainer has to stop."""
        return self.cancel or self.drain or self.pause


@dataclass(frozen=True)
class End:
    """How a trainer has ended, or its part for one run of a group."""

    worker: str
    report: ResultReport | FailureReport | None = None
    """Its final report, if it sent one."""
    alone: str | None = None
    """Why the run cannot train in its group."""
    status: int = 0
    """Its exit status, which counts if it sent no report without an order to stop."""
    killed: bool = False
    """The status says that it was ended from outside."""
    stalled: bool = False
    """It was ended because it made no progress."""
    lost_gpu: bool = False
    """The driver no longer lists a GPU of the attempt."""
    oom_killed: bool = False
    """The kernel has killed a process for its memory."""


@dataclass(frozen=True)
class Finish:
    """Write the result."""

    result: RunResult


@dataclass(frozen=True)
class Fail:
    """End the run as failed."""

    failure: Failure


@dataclass(frozen=True)
class Cancel:
    """End the run as cancelled."""


@dataclass(frozen=True)
class Retry:
    """Queue the run again, or fail it if it has had all its attempts: this one counts."""

    failure: Failure


@dataclass(frozen=True)
class HandBack:
    """Queue the run again: this attempt does not count."""

    why: str


Decision = Finish | Fail | Cancel | Retry | HandBack


def decide(end: End, orders: Orders, *, others: bool) -> Decision:
    """What follows from an end; `others`: the trainer trains other runs too, any of which may be the cause."""
    if isinstance(end.report, ResultReport):
        return Finish(end.report.result)
    if end.alone is not None:
        return train_alone(end.alone)
    failure = end.report.failure if end.report else None
    if end.lost_gpu and (failure or not orders):
        return Retry(_plain(FailureCode.DEVICE_LOST))
    if failure:
        return train_alone(failure.message) if others and failure.out_of_memory else Fail(failure)
    if orders.cancel:
        return Cancel()
    if orders:
        return HandBack(f"{end.worker} is shutting down" if orders.drain else "it was paused")
    if others:
        ended = f"the trainer of its group ended with status {end.status}"
        return train_alone(FAILURES[FailureCode.STALLED] if end.stalled else ended)
    if end.stalled:
        return Fail(_plain(FailureCode.STALLED))
    if end.killed:
        return Retry(_plain(FailureCode.HOST_OOM if end.oom_killed else FailureCode.KILLED))
    why = FAILURES[FailureCode.INTERNAL]
    message = _("The trainer ended with status %(status)s. %(why)s", status=end.status, why=why)
    return Fail(Failure(code=FailureCode.INTERNAL, message=message))


def train_alone(why: str) -> HandBack:
    """Queue a run of a group again, from its last checkpoint: a run that was claimed before is in no group."""
    return HandBack(f"{why.rstrip('.')}; the run trains alone from now on")


def _plain(code: FailureCode) -> Failure:
    return Failure(code=code, message=FAILURES[code])
