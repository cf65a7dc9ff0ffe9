"""The whole of Vezna as processes: a study by HTTP, and the same with its worker killed in the middle."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import pytest

from app.domain.runs.result import Clocks
from app.embedded import Child, Stack
from app.settings import Settings
from app.store.queries import runs
from app.store.session import Database
from tests.running_stack import RunningStack, prepare, start, until

pytestmark = pytest.mark.slow

STUDY: dict[str, Any] = {
    "name": "Tiny",
    "base_model": "tiny",
    "dataset": "small",
    "arms": [
        {"method": {"kind": "full"}},
        {"method": {"kind": "lora", "r": 2, "target_modules": ["query", "value"]}},
    ],
    "seeds": [0, 1],
    "training": {"num_train_epochs": 1, "per_device_train_batch_size": 8, "max_length": 16},
    "margin_points": 5,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with pytest.MonkeyPatch.context() as patch, start(prepare(tmp_path_factory.mktemp("whole"), patch)) as found:
        yield found


def worker_of(found: Stack) -> Child:
    """The newest: an earlier one may have been killed."""
    return [child for child in found.children if child.name == "worker"][-1]


def trainers(parent: int) -> list[psutil.Process]:
    """Those at work: the one that waits for a job is in no run's folder."""
    children = psutil.Process(parent).children(recursive=True)
    return [p for p in children if "worker.training.child" in " ".join(p.cmdline()) and p.cwd() != "/"]


def finished(api: httpx2.Client, study: int) -> bool:
    return bool(api.get(f"/studies/{study}").json()["status"] == "finished")


def weighed(api: httpx2.Client, study: int) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/studies/{study}/comparison").json()
    assert [arm["statuses"] for arm in found["arms"]] == [{"succeeded": 2}, {"succeeded": 2}]
    verdict = found["arms"][1]["verdict"]  # a tiny model may lose to a baseline: then no arm is tested
    assert verdict["kind"] in ("within", "better", "worse", "undecided") or verdict["reason"] == "not_tested"
    return found


def test_a_study_by_http_ends_in_a_verdict_and_leaves_what_it_promised(
    running: RunningStack,
) -> None:
    _, api = running
    study = api.post("/studies", json=STUDY).json()
    until(lambda: finished(api, study["id"]), 240)
    weighed(api, study["id"])
    for run_id in study["runs"]:
        run = api.get(f"/runs/{run_id}").json()
        result = run["result"]
        assert result["audit"]["passed"]
        clocks = Clocks.model_validate(result["clocks"])
        assert clocks.accounted == pytest.approx(clocks.wall, rel=0.01)
        assert api.get(f"/runs/{run_id}/steps").json()["step"] == list(range(1, result["steps"] + 1))
        names = {a["name"] for a in api.get(f"/runs/{run_id}/artifacts").json()}
        assert "predictions.parquet" in names
    adapter = {a["name"]: a for a in api.get(f"/runs/{study['runs'][1]}/artifacts").json()}
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= set(adapter)
    weights = adapter["adapter/adapter_model.safetensors"]
    assert len(api.get(f"/artifacts/{weights['id']}/content").content) == weights["bytes"]


def checkpoints(settings: Settings, run_id: int) -> int:
    """How many of a run's checkpoints are stored."""
    database = Database(settings.database)
    with database.reading() as session:
        found = len(runs.get(session, run_id).checkpoints)
    database.dispose()
    return found


def test_a_worker_killed_in_the_middle_costs_an_attempt_and_no_run(running: RunningStack) -> None:
    found, api = running
    longer = STUDY | {"training": STUDY["training"] | {"num_train_epochs": 100}}
    study = api.post("/studies", json=longer).json()
    first = study["runs"][0]
    until(lambda: checkpoints(found.settings, first) > 0, 90)
    worker = worker_of(found)
    [trainer] = trainers(worker.process.pid)
    pool = psutil.Process(worker.process.pid).children()
    os.kill(worker.process.pid, signal.SIGKILL)
    for child in pool:  # as the kernel would when it ends a container
        if child.is_running():
            child.kill()
    until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, 10)
    worker.process.wait()
    assert api.get(f"/runs/{first}").json()["status"] == "running"
    found.children.append(Child(worker.name, worker.command, worker.environment, worker.log))
    until(lambda: finished(api, study["id"]), 270)
    weighed(api, study["id"])
    run = api.get(f"/runs/{first}").json()
    assert run["attempt"] == 2
    assert 0 < run["result"]["resumed_from"] < run["result"]["steps"]
    assert run["result"]["steps"] == len(api.get(f"/runs/{first}/steps", params={"points": 100_000}).json()["step"])


def test_a_running_run_is_cancelled_within_seconds(running: RunningStack) -> None:
    found, api = running
    spec = {
        "base_model": "tiny",
        "dataset": "small",
        "method": {"kind": "full"},
        "training": {"num_train_epochs": 1000, "max_length": 16},
    }
    run_id = api.post("/runs", json=spec).json()["id"]
    until(lambda: api.get(f"/runs/{run_id}").json()["step"] > 0, 90)
    asked = time.monotonic()
    assert api.post(f"/runs/{run_id}/cancel").status_code == 202
    until(lambda: api.get(f"/runs/{run_id}").json()["status"] == "cancelled", 20)
    assert time.monotonic() - asked < 20
    worker = worker_of(found)
    until(lambda: not trainers(worker.process.pid), 5)
    assert api.post(f"/runs/{run_id}/cancel").status_code == 409
