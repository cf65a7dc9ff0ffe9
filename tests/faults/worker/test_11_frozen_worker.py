"""Fault 11: a worker is frozen for longer than its lease, then thawed. It writes nothing more and ends its trainer."""

import signal
from collections.abc import Callable

import psutil
import pytest
from sqlalchemy import update

from app.domain.failures import Failure, FailureCode
from app.domain.runs.job import StepsReport, WeightDeltasReport
from app.services.runs import attempts
from app.services.runs.attempts import Claim, Fenced
from app.services.workers import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import steps, weight_deltas
from app.store.tables import RunRow
from tests.faults.installation import Installation, signal_family
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, claimed, in_transaction, let_lease_expire, row
from tests.support.rows.attempted import claim as claim_run
from tests.support.rows.results import result, some_weight_deltas, step
from tests.support.servers.running_stack import until
from tests.support.servers.supervised import attempt, left_folders
from worker.nodes.context import Context


@pytest.mark.slow
def test_a_worker_that_was_frozen_longer_than_its_lease_writes_nothing_more(vezna: Installation) -> None:
    run_id = vezna.submit("trains")
    vezna.until_checkpoint(run_id)
    frozen = psutil.Process(vezna.child("worker").process.pid)
    trainer = vezna.trainer()
    signal_family(frozen, signal.SIGSTOP)
    try:
        second = vezna.add_worker("second")
        run = vezna.require_succeeded_once(run_id, attempts=2)
        assert run.worker == "second"
        before = (run.finished_at, run.reported, vezna.steps(run_id), vezna.messages(run_id))
    finally:
        signal_family(frozen, signal.SIGCONT)
    psutil.wait_procs([trainer], 20)
    assert not trainer.is_running()
    until(lambda: "another attempt has taken over the run; nothing more is written" in vezna.log("worker"), 20)
    run = vezna.run(run_id)
    assert (run.finished_at, run.reported, vezna.steps(run_id), vezna.messages(run_id)) == before
    vezna.remove_worker(second)
    assert vezna.require_succeeded_once(vezna.submit("succeeds")).worker != "second"


def test_a_zombie_ends_itself_and_writes_nothing(here: Context, claim: Claim, meanwhile: Callable[..., None]) -> None:
    passed_on = update(RunRow).where(RunRow.id == claim.run_id).values(epoch=2, worker="w2")
    meanwhile(claim.run_id, lambda session: session.execute(passed_on))
    run = attempt(here, claim, "steps-forever")
    assert (run.status, run.epoch, run.worker) == ("running", 2, "w2")
    assert left_folders(here) == []


def test_a_zombie_of_an_older_attempt_writes_no_row(registered: Database, bell: SilentBell, settings: Settings) -> None:
    zombie = claimed(registered, bell)
    let_lease_expire(registered, zombie.run_id)
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    second = claim_run(registered, zombie.run_id, "w2")
    assert second is not None and second.epoch == 2
    for act in (
        lambda s: attempts.report(s, zombie, 1, [StepsReport(steps=[step(9)])], LEASE),
        lambda s: attempts.finish(s, bell, zombie, result(), {}),
        lambda s: attempts.fail(s, bell, zombie, Failure(code=FailureCode.INTERNAL, message="x")),
        lambda s: attempts.stop(s, bell, zombie),
        lambda s: attempts.hand_back(s, bell, zombie, "x"),
    ):
        with pytest.raises(Fenced):
            in_transaction(registered, act)
    assert row(registered, zombie.run_id).status == "running"
    with registered.reading() as session:
        assert len(steps.read(session, zombie.run_id)) == 0


def test_a_zombie_has_no_weight_updates_to_write(registered: Database, bell: SilentBell) -> None:
    old = claimed(registered, bell)
    in_transaction(registered, lambda s: attempts.hand_back(s, bell, old, "the worker stops"))
    assert claim_run(registered, old.run_id) is not None
    with pytest.raises(Fenced):
        in_transaction(
            registered,
            lambda s: attempts.report(s, old, 1, [WeightDeltasReport(weight_deltas=some_weight_deltas())], LEASE),
        )
    with registered.reading() as session:
        assert weight_deltas.of_runs(session, [old.run_id]) == {}
