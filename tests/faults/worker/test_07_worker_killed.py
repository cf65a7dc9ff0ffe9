"""Fault 7: the main process of a worker is killed. Its trainer dies too, and the run resumes once its lease expires.

The whole of Vezna as processes, with the real engine: a study by HTTP ends in a verdict nevertheless.
"""

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from app.broker.embedded import Child, Stack
from app.domain.runs.clocks import Clocks
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import events
from app.store.runs import queries as runs
from tests.support.servers.running_stack import RunningStack, prepare, start, until

pytestmark = pytest.mark.slow

STUDY: dict[str, Any] = {
    "name": "Tiny",
    "base_model": "tiny",
    "dataset": "small",
    "arms": [{"method": {"kind": "full"}}, {"method": {"kind": "lora", "r": 2, "target_modules": ["query", "value"]}}],
    "seeds": [0],
    "training": {"num_train_epochs": 60, "per_device_train_batch_size": 8, "max_length": 16},
    "margin_points": 5,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with pytest.MonkeyPatch.context() as patch, start(prepare(tmp_path_factory.mktemp("whole"), patch)) as found:
        yield found


def worker_of(found: Stack) -> tuple[int, Child]:
    """The worker, and its place among the processes."""
    return next((place, child) for place, child in enumerate(found.children) if child.name == "worker")


def trainers(parent: int) -> list[psutil.Process]:
    """Those at work: the one that waits for a job is in no run's folder."""
    children = psutil.Process(parent).children(recursive=True)
    return [p for p in children if "worker.training.child" in " ".join(p.cmdline()) and p.cwd() != "/"]


def checkpoints(settings: Settings, run_id: int) -> int:
    """How many of a run's checkpoints are stored."""
    database = Database(settings.database)
    with database.reading() as session:
        found = len(runs.get(session, run_id).checkpoints)
    database.dispose()
    return found


def messages(settings: Settings, run_id: int) -> list[str]:
    """The log of a run."""
    database = Database(settings.database)
    with database.reading() as session:
        found = [event.message for event in events.after(session, run_id)]
    database.dispose()
    return found


def test_a_study_whose_worker_is_killed_ends_in_a_verdict_with_every_step_once(running: RunningStack) -> None:
    found, api = running
    study = api.post("/studies", json=STUDY).json()
    first, *others = study["runs"]
    until(lambda: checkpoints(found.settings, first) > 0, 90)
    place, worker = worker_of(found)
    [trainer] = trainers(worker.process.pid)
    family = psutil.Process(worker.process.pid).children(recursive=True)
    os.kill(worker.process.pid, signal.SIGKILL)
    _gone, left = psutil.wait_procs(family, 10)
    assert left == [] and trainer in family
    assert api.get(f"/runs/{first}").json()["status"] == "running", "only its lease ends it"
    found.children[place] = worker.again()

    until(lambda: api.get(f"/studies/{study['id']}").json()["status"] == "finished", 270)

    weighed = api.get(f"/studies/{study['id']}/comparison").json()
    assert [arm["statuses"] for arm in weighed["arms"]] == [{"succeeded": 1}, {"succeeded": 1}]
    verdict = weighed["arms"][1]["verdict"]  # a tiny model may lose to a baseline: then no arm is tested
    assert verdict["kind"] in ("enough", "worse", "undecided") or verdict["reason"] == "not_tested"
    run = api.get(f"/runs/{first}").json()
    assert run["attempt"] == 2
    assert 0 < run["result"]["resumed_from"] < run["result"]["steps"]
    assert f"queued again: the worker {run['worker']} was lost in attempt 1" in messages(found.settings, first)
    for run_id in study["runs"]:
        result = api.get(f"/runs/{run_id}").json()["result"]
        assert result["audit"]["passed"]
        steps = api.get(f"/runs/{run_id}/steps", params={"points": 100_000}).json()["step"]
        assert steps == list(range(1, result["steps"] + 1))
        names = {a["name"] for a in api.get(f"/runs/{run_id}/artifacts").json()}
        assert "predictions.parquet" in names
    clocks = Clocks.model_validate(api.get(f"/runs/{others[-1]}").json()["result"]["clocks"])
    assert clocks.accounted == pytest.approx(clocks.wall, rel=0.01)
    adapter = {a["name"]: a for a in api.get(f"/runs/{study['runs'][1]}/artifacts").json()}
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= set(adapter)
    weights = adapter["adapter/adapter_model.safetensors"]
    assert len(api.get(f"/artifacts/{weights['id']}/content").content) == weights["bytes"]
    assert list((found.settings.home / "work").iterdir()) == []
    assert [path for path in (found.settings.home / "files").rglob("checkpoints/*") if path.is_file()] == []
