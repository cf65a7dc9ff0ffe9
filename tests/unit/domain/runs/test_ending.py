"""How an attempt ends: a table of ends and orders."""

import pytest

from app.domain.failures import FAILURES, Failure, FailureCode
from app.domain.runs.ending import Cancel, Decision, End, Fail, Finish, HandBack, Orders, Retry, decide
from app.domain.runs.job import FailureReport, ResultReport
from tests.support.rows.results import result

RESULT = result()
DIVERGED = Failure(code=FailureCode.DIVERGED, message="The loss became NaN.")
NO_MEMORY = Failure(code=FailureCode.OUT_OF_MEMORY, message="No memory.")
CANCEL, DRAIN, PAUSE, NONE = Orders(cancel=True), Orders(drain=True), Orders(pause=True), Orders()


def plain(code: FailureCode) -> Failure:
    return Failure(code=code, message=FAILURES[code])


def alone(why: str) -> HandBack:
    return HandBack(f"{why}; the run trains alone from now on")


def said(report: ResultReport | FailureReport, *, lost_gpu: bool = False) -> End:
    return End("w1", report=report, lost_gpu=lost_gpu)


DONE, FAILED, FULL = ResultReport(result=RESULT), FailureReport(failure=DIVERGED), FailureReport(failure=NO_MEMORY)
SIGNALLED = End("w1", status=-9, killed=True)


@pytest.mark.parametrize(
    ("end", "orders", "others", "decision"),
    [
        (said(DONE), NONE, False, Finish(RESULT)),
        (said(DONE, lost_gpu=True), CANCEL, True, Finish(RESULT)),
        (said(FAILED), NONE, False, Fail(DIVERGED)),
        (said(FAILED), CANCEL, True, Fail(DIVERGED)),
        (said(FULL), NONE, False, Fail(NO_MEMORY)),
        (said(FULL), NONE, True, alone("No memory")),
        (said(FAILED, lost_gpu=True), DRAIN, False, Retry(plain(FailureCode.DEVICE_LOST))),
        (End("w1", status=-9, killed=True, lost_gpu=True), NONE, True, Retry(plain(FailureCode.DEVICE_LOST))),
        (End("w1", lost_gpu=True), CANCEL, False, Cancel()),
        (End("w1"), Orders(cancel=True, drain=True), False, Cancel()),
        (End("w1"), DRAIN, False, HandBack("w1 is shutting down")),
        (End("w1"), PAUSE, True, HandBack("it was paused")),
        (End("w1"), Orders(drain=True, pause=True), False, HandBack("w1 is shutting down")),
        (End("w1", stalled=True), PAUSE, False, HandBack("it was paused")),
        (End("w1", alone="Its batch differs."), NONE, True, alone("Its batch differs")),
        (SIGNALLED, NONE, False, Retry(plain(FailureCode.KILLED))),
        (SIGNALLED, NONE, True, alone("the trainer of its group ended with status -9")),
        (End("w1", status=-9, killed=True, oom_killed=True), NONE, False, Retry(plain(FailureCode.HOST_OOM))),
        (End("w1", status=-9, killed=True, stalled=True), NONE, False, Fail(plain(FailureCode.STALLED))),
        (End("w1", stalled=True), NONE, True, alone(FAILURES[FailureCode.STALLED].rstrip("."))),
    ],
)
def test_how_an_attempt_ends(end: End, orders: Orders, others: bool, decision: Decision) -> None:
    assert decide(end, orders, others=others) == decision


def test_a_trainer_that_ends_without_a_reason_is_an_internal_error_that_names_its_status() -> None:
    decision = decide(End("w1", status=3), NONE, others=False)
    assert isinstance(decision, Fail) and decision.failure.code is FailureCode.INTERNAL
    assert "status 3" in decision.failure.message
