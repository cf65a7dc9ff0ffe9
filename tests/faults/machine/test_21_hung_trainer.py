"""Fault 21: a trainer lives and makes no progress. The run ends as `stalled` at its deadline."""

import signal
from dataclasses import replace

import psutil
import pytest

from app.domain.failures import FAILURES, FailureCode
from app.services.runs.attempts import Claim
from tests.faults.installation import Installation
from tests.support.servers.running_stack import until
from tests.support.servers.supervised import attempt, left_folders, messages
from worker.nodes.context import Context

STALL_SECONDS = 9


@pytest.mark.nightly
def test_a_trainer_that_stops_where_it_is_ends_as_stalled_and_the_worker_goes_on(vezna: Installation) -> None:
    assert vezna.settings.lease_seconds < STALL_SECONDS, "the lease does not end it"
    vezna.child("worker").stop()
    vezna.child("worker").process.wait(vezna.settings.stop_seconds + 10)
    impatient = vezna.add_worker("impatient", VEZNA_STALL_SECONDS=f"{STALL_SECONDS}")
    run_id = vezna.submit("trains")
    vezna.until_checkpoint(run_id)
    trainer = vezna.trainer()
    supervisor = trainer.parent()

    trainer.send_signal(signal.SIGSTOP)
    until(lambda: trainer.status() == psutil.STATUS_STOPPED, 10)

    message = vezna.require_failed_once(run_id, FailureCode.STALLED)
    assert message == FAILURES[FailureCode.STALLED]
    assert not trainer.is_running()
    assert vezna.steps(run_id) == list(range(1, len(vezna.steps(run_id)) + 1))
    after = vezna.require_succeeded_once(vezna.submit("succeeds"))
    assert after.worker == vezna.run(run_id).worker == "impatient"
    assert supervisor is not None and supervisor.is_running()
    vezna.remove_worker(impatient)


@pytest.mark.slow
def test_a_trainer_without_progress_is_ended_as_stalled(here: Context, claim: Claim) -> None:
    here = replace(here, settings=here.settings.model_copy(update={"stall_seconds": here.settings.lease_seconds * 1.5}))
    run = attempt(here, claim, "hangs")
    assert (run.status, run.failure_code) == ("failed", "stalled")
    assert run.failure_message == FAILURES[FailureCode.STALLED]
    assert (run.epoch, run.attempts) == (1, 1), "its lease was renewed all the time"
    assert messages(here, run.id)[-1].startswith("failed, stalled: ")
    assert left_folders(here) == []
