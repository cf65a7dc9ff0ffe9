"""Fault 12: a worker is told to stop while it trains. It hands the run back with a checkpoint; no attempt counts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.broker.queue import TRAIN
from app.domain.runs.listing.queue import QueueChange
from app.services.runs import attempts
from app.services.runs.attempts import Claim
from app.services.workers import queue_order
from app.store.database.session import Database
from app.store.workers import queries as workers
from app.store.workers import queue
from tests.faults.installation import Installation, installation
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import claim as claim_of
from tests.support.rows.attempted import claimed as claimed_run
from tests.support.rows.attempted import in_transaction
from tests.support.rows.attempted import row as row_of
from tests.support.servers.running_stack import until
from tests.support.servers.supervised import attempt, claimed, drained, left_folders, messages, stored, submitted
from worker.nodes.context import Context
from worker.training.lease import Lease


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_saves_the_run_and_hands_it_back(vezna: Installation) -> None:
    run_id = vezna.submit("trains")
    vezna.until_checkpoint(run_id)
    worker, trainer = vezna.child("worker"), vezna.trainer()
    worker.stop()
    assert worker.process.wait(vezna.settings.stop_seconds + 10) == 0
    assert not trainer.is_running()
    run = vezna.run(run_id)
    assert (run.status, run.attempts, run.epoch) == ("queued", 0, 1)
    assert f"queued again: {run.worker} is shutting down" in vezna.messages(run_id)
    last = run.checkpoints[-1].step
    assert last == vezna.steps(run_id)[-1], "saved when it was told to stop, not only at the interval"
    vezna.restart()
    run = vezna.require_succeeded_once(run_id, attempts=2)
    assert run.attempts == 1 and run.result and run.result.resumed_from == last


@pytest.mark.nightly
def test_an_idle_worker_takes_a_run_that_is_handed_back_without_a_sweep(tmp_path: Path, migrated_file: Path) -> None:
    (tmp_path / "home").mkdir()
    shutil.copy(migrated_file, tmp_path / "home" / "vezna.sqlite")
    never = {"SWEEP_SECONDS": "3600", "RING_AGAIN_SECONDS": "3600"}
    with installation(tmp_path, **never) as vezna:
        run_id = vezna.submit("trains")
        vezna.until_checkpoint(run_id)
        vezna.add_worker("second")
        until(lambda: {w["name"] for w in vezna.api.get("/workers").json() if w["state"] != "lost"} >= {"second"}, 60)
        vezna.child("worker").stop()
        run = vezna.require_succeeded_once(run_id, attempts=2)  # the next sweep comes in an hour
        assert (run.worker, run.attempts) == ("second", 1)


def test_a_run_that_is_paused_while_it_trains_is_handed_back_and_resumed(
    here: Context, bell: SilentBell, claim: Claim, meanwhile: Callable[..., None]
) -> None:
    def change(paused: bool) -> None:
        in_transaction(
            here.database, lambda s: queue_order.change_run(s, bell, claim.run_id, QueueChange(paused=paused))
        )

    meanwhile(claim.run_id, lambda session: queue.set_paused(session, [claim.run_id], True))
    run = attempt(here, claim, "steps-forever")
    assert (run.status, run.attempts, run.paused) == ("queued", 0, True)
    assert "queued again: it was paused" in messages(here, claim.run_id)
    bell.rung.clear()
    assert claim_of(here.database, claim.run_id) is None, "no worker takes it"
    change(False)
    assert bell.rung == [(TRAIN, claim.run_id)] and claim_of(here.database, claim.run_id) is not None


def test_a_pause_that_is_taken_back_while_the_trainer_stops_hands_the_run_back(
    registered: Database, bell: SilentBell
) -> None:
    mine = claimed_run(registered, bell)
    lease = Lease(registered, mine, lease_seconds=30, renew_seconds=5)
    for paused in (True, False):
        in_transaction(registered, lambda s, p=paused: queue.set_paused(s, [mine.run_id], p))
        lease.renew()
        assert lease.ordered and lease.orders.pause, "the trainer is stopping, so its end is not a failure"


def test_a_drained_worker_hands_its_run_back(here: Context, claim: Claim, meanwhile: Callable[..., None]) -> None:
    meanwhile(claim.run_id, lambda session: workers.drain(session, "w1"))
    run = attempt(here, claim, "steps-forever")
    assert (run.status, run.attempts) == ("queued", 0)
    assert left_folders(here) == []


def test_a_run_that_was_handed_back_does_not_lose_an_attempt(registered: Database, bell: SilentBell) -> None:
    mine = claimed_run(registered, bell)
    bell.rung.clear()
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, mine, "shutting down"))
    back = row_of(registered, mine.run_id)
    assert (back.status, back.epoch, back.attempts) == ("queued", 1, 0)
    assert bell.rung == [(TRAIN, mine.run_id)]


@pytest.mark.slow
def test_a_drained_run_goes_on_from_its_last_checkpoint_and_leaves_none_at_its_end(here: Context) -> None:
    run_id = submitted(here)
    run = drained(here, run_id)
    assert (run.status, run.attempts) == ("queued", 0)
    assert [c.step for c in run.checkpoints] == [9, 10]
    assert {Path(name).parent.name for name in stored(here)} == {"1-9", "1-10"}  # older ones are gone

    assert attempt(here, claimed(here, run_id), "leaves-a-checkpoint").status == "succeeded"
    assert "going on from step 10" in messages(here, run_id)
    assert stored(here) == []
