"""Fault 5: FLUSHALL on the broker. Every ring is lost, and no run."""

import pytest
import redis

from tests.faults.installation import Installation

pytestmark = pytest.mark.slow


def test_runs_whose_rings_were_flushed_are_rung_for_again(vezna: Installation) -> None:
    first = vezna.submit("trains")
    vezna.until_status(first, "running")
    waiting = [vezna.submit("succeeds") for _ in range(2)]
    with redis.Redis.from_url(vezna.settings.broker) as broker:
        broker.flushall()
        assert broker.dbsize() == 0
    vezna.finish(first)
    for run_id in [first, *waiting]:
        vezna.require_succeeded_once(run_id)
    assert "swept" in vezna.log("control")
