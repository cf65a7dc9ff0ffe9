"""Fault 4: the broker delivers a message twice. The second claim is refused and has no effect."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.broker.queue import TRAIN, Doorbell
from app.store.database.session import Database
from tests.faults.installation import Installation
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import claim, row, submit


@pytest.mark.nightly
def test_a_run_that_is_rung_for_again_and_again_is_executed_once(vezna: Installation) -> None:
    first = vezna.submit("trains")
    vezna.until_status(first, "running")
    second = vezna.submit("succeeds")
    bell = Doorbell(vezna.settings)
    for run_id in (first, second) * 3:
        assert bell.ring(TRAIN, run_id)
    vezna.finish(first)
    last = vezna.submit("succeeds")  # rung for behind all of them
    for run_id in (first, second, last):
        vezna.require_succeeded_once(run_id)


def test_a_second_delivery_finds_nothing_to_claim(registered: Database, bell: SilentBell) -> None:
    run_id = submit(registered, bell)
    first, second = claim(registered, run_id), claim(registered, run_id, "w2")
    assert first is not None and first.epoch == 1 and first.worker == "w1"
    assert second is None
    taken = row(registered, run_id)
    assert (taken.worker, taken.epoch, taken.attempts) == ("w1", 1, 1)


def test_of_eight_simultaneous_claims_exactly_one_succeeds(registered: Database, bell: SilentBell) -> None:
    ids = [submit(registered, bell) for _ in range(5)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: claim(registered, ids[i % 5], f"w{i}"), range(40)))
    assert sorted(c.run_id for c in found if c) == ids
