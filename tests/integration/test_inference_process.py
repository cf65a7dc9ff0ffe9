"""Predictions with everything running: a run that trained here answers; its process is killed, idle, and stopped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.running_stack import RunningStack, prepare, start, until

pytestmark = pytest.mark.slow
CHILD = "worker.inference.child"
LORA = {"kind": "lora", "r": 2, "target_modules": ["query", "value"]}
TRAINING = {"max_steps": 5, "max_length": 16, "warmup_steps": 0}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Everything, with a LoRA run and a full run that have succeeded: runs 1 and 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEZNA_INFER_IDLE_SECONDS", "20")
        settings = prepare(tmp_path_factory.mktemp("stack"), patch)
        with start(settings) as found:
            for method in (LORA, {"kind": "full"}):
                body = {"base_model": "tiny", "dataset": "small", "method": method, "training": TRAINING}
                assert found.api.post("/runs", json=body).status_code == 202
            until(lambda: all(found.api.get(f"/runs/{n}").json()["status"] == "succeeded" for n in (1, 2)), 120)
            yield found


def processes(running: RunningStack) -> list[psutil.Process]:
    """The inference processes."""
    control = next(child for child in running.stack.children if child.name == "control")
    family = psutil.Process(control.process.pid).children(recursive=True)
    return [process for process in family if CHILD in " ".join(process.cmdline())]


def predict(running: RunningStack, run: int, inputs: list[str], **options: Any) -> Any:
    return running.api.post(f"/runs/{run}/predict", json={"inputs": inputs} | options, timeout=90)


def test_runs_answer_from_one_process_that_is_started_again_after_a_kill(running: RunningStack) -> None:
    texts = [f"good number {n}" for n in range(5)]
    first = predict(running, 1, texts)
    assert first.status_code == 200, first.text
    assert [set(one["probabilities"]) for one in first.json()["predictions"]] == [{"yes", "no"}] * 5
    assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in first.json()["predictions"])
    [process] = processes(running)
    full = predict(running, 2, texts).json()["predictions"]
    assert full != first.json()["predictions"] and [p.pid for p in processes(running)] == [process.pid]
    process.kill()
    process.wait(10)
    assert predict(running, 1, texts).json() == first.json()
    [other] = processes(running)
    assert other.pid != process.pid


def test_errors_of_the_worker_reach_the_client(running: RunningStack) -> None:
    answer = predict(running, 1, ["good", "bad " * 40])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "inputs.1"
    assert predict(running, 1, ["good", "bad " * 40], truncate=True).status_code == 200


def test_an_idle_process_ends_and_its_files_go(running: RunningStack) -> None:
    predict(running, 1, ["good"])
    [process] = processes(running)
    process.wait(60)
    assert predict(running, 1, ["good"]).status_code == 200
    assert [p.pid for p in processes(running)] != [process.pid]


def test_the_process_ends_with_its_node(running: RunningStack, tmp_path: Path) -> None:
    predict(running, 1, ["good"])
    [process] = processes(running)
    control = next(child for child in running.stack.children if child.name == "control")
    psutil.Process(control.process.pid).kill()
    process.wait(20)
    running.stack.keep_alive()
    until(lambda: predict(running, 1, ["good"]).status_code == 200, 90)
