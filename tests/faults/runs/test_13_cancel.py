"""Fault 13: a run is cancelled while it is queued, while it trains, and after its end."""

import time
from collections.abc import Callable

import pytest

from app.domain.errors import Conflict
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim
from app.store.database.session import Database
from tests.faults.installation import Installation
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, claimed, in_transaction, row, submit
from tests.support.rows.attempted import claim as claim_run
from tests.support.servers.running_stack import until
from tests.support.servers.supervised import attempt
from worker.nodes.context import Context


@pytest.mark.nightly
def test_a_run_is_cancelled_while_queued_and_while_running_and_not_after_its_end(vezna: Installation) -> None:
    running, queued = vezna.submit("trains"), vezna.submit("succeeds")
    vezna.until_checkpoint(running)
    trainer = vezna.trainer()
    assert vezna.api.post(f"/runs/{queued}/cancel").json()["status"] == "cancelled"
    requested = time.monotonic()
    assert vezna.api.post(f"/runs/{running}/cancel").status_code == 202
    run = vezna.until_status(running, "cancelled", 20)
    until(lambda: not trainer.is_running(), 20 - (time.monotonic() - requested))
    assert (run.failure_code, run.result) == (None, None)
    assert vezna.messages(running)[-1] == "cancelled"
    for run_id in (running, queued):
        assert vezna.api.post(f"/runs/{run_id}/cancel").status_code == 409
    done = vezna.submit("succeeds")
    vezna.require_succeeded_once(done)
    refused = vezna.api.post(f"/runs/{done}/cancel")
    assert refused.status_code == 409 and "already ended" in refused.json()["detail"]
    assert vezna.run(queued).epoch == 0


def test_a_cancelled_run_stops_after_its_present_step(
    here: Context, claim: Claim, meanwhile: Callable[..., None]
) -> None:
    meanwhile(claim.run_id, lambda session: runs.cancel(session, here.bell, claim.run_id))
    run = attempt(here, claim, "steps-forever")
    assert run.status == "cancelled"
    assert run.step > 0


def test_a_queued_run_is_cancelled_at_once(registered: Database, bell: SilentBell) -> None:
    run_id = submit(registered, bell)
    in_transaction(registered, lambda s: runs.cancel(s, bell, run_id))
    assert row(registered, run_id).status == "cancelled"
    assert claim_run(registered, run_id) is None
    with pytest.raises(Conflict, match="already ended"):
        in_transaction(registered, lambda s: runs.cancel(s, bell, run_id))


def test_a_running_run_receives_its_cancellation_with_its_next_report(registered: Database, bell: SilentBell) -> None:
    mine = claimed(registered, bell)
    in_transaction(registered, lambda s: runs.cancel(s, bell, mine.run_id))
    assert in_transaction(registered, lambda s: attempts.report(s, mine, 1, [], LEASE)).cancel
    in_transaction(registered, lambda s: attempts.stop(s, bell, mine))
    assert row(registered, mine.run_id).status == "cancelled"
