"""Fault 16: a loss is NaN or infinite. The run ends as `diverged` at its step, and no NaN reaches JSON."""

import json
import math
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import FullSpec
from app.domain.runs.job import StepsReport
from app.services.runs import attempts
from app.store.database.session import Database
from tests.faults.installation import Installation
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, claim, in_transaction
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.failures import failure

EXPLODING = {"learning_rate": 10, "weight_decay": 10, "max_grad_norm": 0, "warmup_steps": 0, "num_train_epochs": 60}
"""AdamW multiplies every weight by 1 − learning_rate·weight_decay = −99 in each step."""


@pytest.mark.nightly
def test_a_trainer_whose_loss_explodes_ends_once_and_the_next_run_succeeds(vezna: Installation) -> None:
    place = tiny.save_model(vezna.settings.home / "exploding", num_hidden_layers=1)
    training = EXPLODING | {"per_device_train_batch_size": 8, "max_length": 16, "bf16": False}
    run_id = vezna.submit("learns", base_model=vezna.add_model(place), training=training)

    message = vezna.require_failed_once(run_id, FailureCode.DIVERGED)

    steps = vezna.steps(run_id)
    assert steps == list(range(1, len(steps) + 1)) and f" at step {len(steps) + 1}, with learning rate " in message
    require_no_nan(vezna.api, run_id)
    vezna.require_succeeded_once(vezna.submit("succeeds"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_loss_that_is_not_finite_ends_the_run_at_its_step_and_json_has_no_nan(
    api: TestClient, registered: Database, bell: SilentBell, tmp_path: Path
) -> None:
    training = tiny.FAST.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 0})
    model, recorder = tiny.save_model(tmp_path / "model"), tiny.Recorder()
    with pytest.raises(RunFailed) as failed:
        Attempt(tiny.job(tmp_path / "run", model, FullSpec(), training), recorder).run()
    assert failed.value.code is FailureCode.DIVERGED
    assert recorder.seen, "the first steps were finite"
    assert f" at step {recorder.seen[-1].step + 1}, with learning rate " in failed.value.message
    assert all(math.isfinite(step.loss) for step in recorder.seen)
    for step in recorder.seen:
        json.dumps(step.model_dump(mode="json"), allow_nan=False)

    run_id = api.post("runs", json={"base_model": "tiny", "dataset": "small", "method": {"kind": "full"}}).json()["id"]
    mine = claim(registered, run_id)
    assert mine is not None
    in_transaction(registered, lambda s: attempts.report(s, mine, 1, [StepsReport(steps=recorder.seen)], LEASE))
    in_transaction(registered, lambda s: attempts.fail(s, bell, mine, failure(failed.value)))
    require_no_nan(api, run_id)
    run = api.get(f"runs/{run_id}").json()
    assert (run["status"], run["failure"]["code"]) == ("failed", "diverged")
    assert claim(registered, run_id) is None, "it is not tried again"


def require_no_nan(api: httpx2.Client, run_id: int) -> None:
    """Every answer about a run is JSON as the standard has it."""
    for path in ("", "/steps", "/fit"):
        answer = api.get(f"runs/{run_id}{path}")
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
