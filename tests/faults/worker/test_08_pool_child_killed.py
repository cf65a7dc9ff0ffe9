"""Fault 8: the pool child of a worker is killed. Its trainer dies too, and Celery does not repeat the task."""

import psutil
import pytest

from tests.faults.installation import Installation

pytestmark = pytest.mark.slow


def test_a_run_whose_pool_child_was_killed_resumes_once_its_lease_has_expired(vezna: Installation) -> None:
    run_id = vezna.submit("trains")
    vezna.until_checkpoint(run_id)
    node, pool_child, trainer = vezna.child("worker").process.pid, vezna.pool_child(), vezna.trainer()
    pool_child.kill()
    gone, left = psutil.wait_procs([trainer], 10)
    assert (len(gone), left) == (1, [])
    assert vezna.run(run_id).status == "running", "only the lease ends it"
    run = vezna.require_succeeded_once(run_id, attempts=2)
    assert run.result and run.result.resumed_from
    assert run.attempts == 2
    said = vezna.messages(run_id)
    assert f"queued again: the worker {run.worker} was lost in attempt 1" in said
    assert f"going on from step {run.result.resumed_from}" in said
    assert vezna.child("worker").process.pid == node
    assert vezna.pool_child().pid != pool_child.pid
    assert "Traceback" not in vezna.log("control")
