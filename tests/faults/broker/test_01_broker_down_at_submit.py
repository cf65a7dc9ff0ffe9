"""Fault 1: the broker is down when a run is submitted. The run is queued, and dispatched once the broker is back."""

import pytest

from app.settings import Settings
from tests.faults.installation import Installation, spec

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_a_run_submitted_without_a_broker_is_queued_and_starts_when_it_returns(vezna: Installation) -> None:
    vezna.kill("broker")
    answer = vezna.api.post("/runs", json=spec("succeeds"))
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert "the broker is away; the sweeper will ring again" in vezna.log("web")
    vezna.restart()
    vezna.require_succeeded_once(answer.json()["id"])


def test_with_default_settings_the_sweep_rings_within_a_minute() -> None:
    settings = Settings()
    assert settings.sweep_seconds + settings.ring_again_seconds <= 60
