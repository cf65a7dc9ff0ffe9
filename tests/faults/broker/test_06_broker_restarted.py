"""Fault 6: the broker is restarted while a run trains. The run does not notice, and the next one is consumed."""

import pytest

from tests.faults.installation import Installation
from tests.support.servers.running_stack import until

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_a_run_goes_on_without_a_broker_and_the_next_one_is_consumed(vezna: Installation) -> None:
    first = vezna.submit("trains")
    vezna.until_status(first, "running")
    trainer = vezna.trainer()
    vezna.kill("broker")
    step = vezna.run(first).step
    until(lambda: vezna.run(first).step > step, 20)
    vezna.restart()
    assert trainer.is_running()
    second = vezna.submit("succeeds")
    vezna.finish(first)
    vezna.require_succeeded_once(first)
    vezna.require_succeeded_once(second)
