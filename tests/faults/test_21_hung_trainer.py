"""Fault 21: a trainer lives and makes no progress. The run ends as `stalled` at its deadline."""

from dataclasses import replace

from app.domain.failures import FAILURES, FailureCode
from app.services.attempts import Claim
from tests.supervised import attempt, left_folders, messages
from worker.context import Context


def test_a_trainer_without_progress_is_ended_as_stalled(here: Context, claim: Claim) -> None:
    here = replace(here, settings=here.settings.model_copy(update={"stall_seconds": here.settings.lease_seconds * 1.5}))
    run = attempt(here, claim, "hangs")
    assert (run.status, run.failure_code) == ("failed", "stalled")
    assert run.failure_message == FAILURES[FailureCode.STALLED]
    assert (run.epoch, run.attempts) == (1, 1), "its lease was renewed all the time"
    assert messages(here, run.id)[-1].startswith("failed, stalled: ")
    assert left_folders(here) == []
