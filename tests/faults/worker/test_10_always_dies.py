"""Fault 10: a run whose every attempt dies fails after its last one, and others proceed."""

import pytest

from app.domain.failures import FAILURES, Failure, FailureCode
from app.services.runs import attempts
from app.services.workers import sweep
from app.settings import Settings
from app.store.database.session import Database
from tests.faults.installation import Installation
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import claim, claimed, in_transaction, let_lease_expire, row, submit


@pytest.mark.nightly
def test_a_run_that_always_dies_fails_after_its_last_attempt_and_others_proceed(vezna: Installation) -> None:
    dying, other = vezna.submit("dies"), vezna.submit("succeeds")
    run = vezna.until_status(dying, "failed")
    assert (run.failure_code, run.failure_message) == ("killed", FAILURES[FailureCode.KILLED])
    assert run.attempts == run.epoch == vezna.settings.max_attempts
    said = vezna.messages(dying)
    assert sum(line.startswith("queued again") for line in said) == run.attempts - 1
    assert said[-1].startswith("failed, killed: ")
    vezna.require_succeeded_once(other)
    later = vezna.submit("succeeds")
    vezna.require_succeeded_once(later)
    assert vezna.run(dying).epoch == run.epoch, "a run that has ended is not tried again"


def test_a_run_whose_worker_is_lost_too_often_fails_as_lost(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    run_id = submit(registered, bell)
    for _ in range(settings.max_attempts):
        assert claim(registered, run_id) is not None
        let_lease_expire(registered, run_id)
        in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert (row(registered, run_id).status, row(registered, run_id).failure_code) == ("failed", "lost")
    assert claim(registered, run_id) is None


def test_a_trainer_that_was_killed_is_tried_again_and_then_fails(registered: Database, bell: SilentBell) -> None:
    killed = Failure(code=FailureCode.KILLED, message="ended from outside")
    mine = claimed(registered, bell)
    in_transaction(registered, lambda s: attempts.retry(s, bell, mine, killed, 2))
    assert row(registered, mine.run_id).status == "queued"
    again = claim(registered, mine.run_id)
    assert again is not None
    in_transaction(registered, lambda s: attempts.retry(s, bell, again, killed, 2))
    assert (row(registered, mine.run_id).status, row(registered, mine.run_id).failure_code) == ("failed", "killed")
