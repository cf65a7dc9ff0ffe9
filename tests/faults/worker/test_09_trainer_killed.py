"""Fault 9: the trainer is killed. The run is tried again and, after its last attempt, says whether memory was the
reason."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.failures import FAILURES, FailureCode
from app.services.runs.attempts import Claim
from tests.faults.installation import Installation
from tests.support.servers.supervised import attempt, claimed, left_folders, messages, row, submitted
from worker.nodes.context import Context
from worker.training import outcome
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool


@pytest.mark.nightly
def test_a_run_whose_trainer_was_killed_resumes_at_once(vezna: Installation) -> None:
    run_id = vezna.submit("trains")
    vezna.until_checkpoint(run_id)
    supervisor = vezna.pool_child().pid
    vezna.trainer().kill()
    run = vezna.require_succeeded_once(run_id, attempts=2)
    assert run.attempts == 2 and run.result and run.result.resumed_from
    assert f"queued again: {FAILURES[FailureCode.KILLED]}" in vezna.messages(run_id)
    assert vezna.pool_child().pid == supervisor


@pytest.mark.parametrize("behaviour", ["killed", "abandons", "stops-unasked"])
def test_a_trainer_that_is_ended_from_outside_is_tried_again_and_counted(
    here: Context, claim: Claim, behaviour: str
) -> None:
    run = attempt(here, claim, behaviour)
    assert (run.status, run.attempts, run.failure_code) == ("queued", 1, None)


@pytest.mark.slow
def test_a_run_whose_trainer_was_killed_goes_on_from_what_it_had_just_left(here: Context) -> None:
    run_id = submitted(here)
    run = attempt(here, claimed(here, run_id), "leaves-a-checkpoint-and-is-killed")
    assert (run.status, [c.step for c in run.checkpoints]) == ("queued", [3])

    assert attempt(here, claimed(here, run_id), "leaves-a-checkpoint").status == "succeeded"
    assert "going on from step 3" in messages(here, run_id)


def test_a_trainer_that_the_kernel_killed_for_memory_ends_as_host_oom(
    here: Context, claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = tmp_path / "memory.events"
    counted.write_text("oom 0\noom_kill 0\n")
    monkeypatch.setattr(outcome, "CGROUP_EVENTS", counted)
    program = f"import os; open({str(counted)!r}, 'w').write('oom 1\\noom_kill 1\\n'); os.kill(os.getpid(), 9)"
    killed = replace(here, trainers=WarmPool((sys.executable, "-c", program)))
    supervise(killed, claim)
    assert messages(here, claim.run_id)[-1] == f"queued again: {FAILURES[FailureCode.HOST_OOM]}"
    for _ in range(2):
        counted.write_text("oom 0\noom_kill 0\n")
        supervise(killed, claimed(here, claim.run_id))
    run = row(here, claim.run_id)
    assert (run.status, run.failure_code, run.attempts) == ("failed", "host_oom", 3)
    assert left_folders(here) == []
