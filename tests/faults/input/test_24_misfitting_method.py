"""Fault 24: a LoRA target that the model lacks, rank 0, a method that does not suit the model. The field is named."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import LoraSpec
from app.domain.models.base_model import ModelFacts
from tests.conftest import TINY_FACTS
from tests.faults.installation import Installation, spec
from tests.support.fakes.fakes import SilentBell
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt

LORA = {"kind": "lora", "r": 2, "target_modules": ["query", "value"]}
RUN = {"base_model": "tiny", "dataset": "small", "method": LORA}


@pytest.mark.nightly
def test_a_trainer_refuses_a_target_that_only_the_inspected_model_had_and_its_worker_goes_on(
    vezna: Installation,
) -> None:
    inspected = ModelFacts.model_validate_json(TINY_FACTS.model_dump_json().replace("query", "q_proj"))
    place = tiny.save_model(vezna.settings.home / "renamed", num_hidden_layers=1)
    method = LORA | {"target_modules": ["q_proj"]}
    refused = vezna.api.post("/runs", json=spec("learns", method=method))
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "method.target_modules")
    assert vezna.api.get("/runs", params={"status": "queued"}).json()["items"] == []

    run_id = vezna.submit("learns", base_model=vezna.add_model(place, inspected), method=method)

    message = vezna.require_failed_once(run_id, FailureCode.BAD_CONFIGURATION)
    assert "'q_proj'" in message and "query, key, value, dense" in message
    assert vezna.steps(run_id) == []
    vezna.require_succeeded_once(vezna.submit("succeeds"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ({"target_modules": ["q_proj"]}, "method.target_modules", "query, key, value, dense"),
        ({"r": 0}, "method.r", "Must be 1 or more"),
        ({"layers_to_transform": [7]}, "method.layers_to_transform", "Choose from 0 to 0"),
    ],
    ids=["absent target", "rank 0", "absent block"],
)
def test_a_method_that_does_not_fit_is_refused_by_its_field(
    api: TestClient, bell: SilentBell, method: dict[str, Any], path: str, says: str
) -> None:
    answer = api.post("runs", json=RUN | {"method": LORA | method})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["path"] == path
    assert says in f"{error['message']} {error['remedy']}" and "Traceback" not in answer.text
    assert bell.rung == [] and api.get("runs").json()["items"] == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_method_that_does_not_suit_the_task_is_refused_with_what_it_suits(api: TestClient, bell: SilentBell) -> None:
    answer = api.post("runs", json=RUN | {"method": {"kind": "prefix"}})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["path"] == "method.kind" and error["remedy"] == "Use it for causal-lm, seq2seq-lm, preference"
    assert bell.rung == []


def test_a_target_that_the_loaded_model_lacks_is_a_bad_configuration_with_the_real_names(tmp_path: Any) -> None:
    model, recorder = tiny.save_model(tmp_path / "model"), tiny.Recorder()
    job = tiny.job(tmp_path / "run", model, LoraSpec(target_modules=["q_proj"]))
    with pytest.raises(RunFailed) as failed:
        Attempt(job, recorder).run()
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
    assert "'q_proj'" in failed.value.message and "query, key, value, dense" in failed.value.message
    assert recorder.seen == []
