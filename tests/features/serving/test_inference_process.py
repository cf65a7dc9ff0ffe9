"""Predictions with everything running: a run that trained here answers; its process is killed, idle, and stopped."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.services.data import datasets
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from tests.support.servers.forms import form_token
from tests.support.servers.running_stack import RunningStack, prepare, start, until
from tests.support.tiny import images as tiny_images

pytestmark = pytest.mark.slow
CHILD = "worker.features.serving.inference.child"
LORA_ON_ALL = {"kind": "lora", "r": 4, "target_modules": "all-linear"}
LORA = {"kind": "lora", "r": 2, "target_modules": ["query", "value"]}
TRAINING = {"max_steps": 5, "max_length": 16, "warmup_steps": 0}


def add_colours(settings: Settings) -> None:
    """Register a dataset of images."""
    database = Database(settings.database)
    with database.transaction() as session:
        datasets.register(
            session, Files(settings.files), name="colours", title="Colours", form="labelled-images",
            labels=tiny_images.LABELS, rows=tiny_images.rows(),
        )  # fmt: skip
    database.dispose()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Everything, with runs that have succeeded: 1 with LoRA, 2 full, and 3 with LoRA on images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEZNA_INFER_IDLE_SECONDS", "20")
        settings = prepare(tmp_path_factory.mktemp("stack"), patch)
        tiny_images.save_model(settings.model_roots[0] / "vit")
        add_colours(settings)
        with start(settings, ("tiny", "vit")) as found:
            texts = {"base_model": "tiny", "dataset": "small", "training": TRAINING}
            images = {"base_model": "vit", "dataset": "colours", "task": "image-classification"}
            images["training"] = tiny_images.FAST.model_dump(mode="json", exclude_unset=True)
            for body in (
                texts | {"method": LORA},
                texts | {"method": {"kind": "full"}},
                images | {"method": LORA_ON_ALL},
            ):
                answer = found.api.post("/runs", json=body)
                assert answer.status_code == 202, answer.text
            until(lambda: all(found.api.get(f"/runs/{n}").json()["status"] == "succeeded" for n in (1, 2, 3)), 180)
            yield found


def processes(running: RunningStack) -> list[psutil.Process]:
    """The inference processes."""
    control = next(child for child in running.stack.children if child.name == "control")
    family = psutil.Process(control.process.pid).children(recursive=True)
    return [process for process in family if CHILD in " ".join(process.cmdline())]


def predict(running: RunningStack, run: int, inputs: list[str], **options: Any) -> Any:
    return running.api.post(f"/runs/{run}/predict", json={"inputs": inputs} | options, timeout=90)


@pytest.mark.nightly
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


@pytest.mark.nightly
def test_images_that_are_sent_get_the_labels_of_the_evaluation(running: RunningStack) -> None:
    rows = [row for row in tiny_images.rows() if row.split == "test"][:3]
    body = {"inputs": [{"image": b64encode(row.image).decode()} for row in rows]}
    answer = running.api.post("/runs/3/predict", json=body, timeout=90)
    assert answer.status_code == 200, answer.text
    labels = [one["label"] for one in answer.json()["predictions"]]
    assert labels == [tiny_images.LABELS[row.label] for row in rows], "it has learned the colours"
    refused = running.api.post("/runs/3/predict", json={"inputs": [{"image": b64encode(b"<svg/>").decode()}]})
    assert refused.status_code == 422 and "cannot be read" in refused.json()["errors"][0]["message"]
    page = running.api.get("/playground?model=3&model=base".replace("/", running.stack.url + "/", 1), timeout=90)
    form = {"model": ["3", "base"], "csrf_token": form_token(page)}
    files = {"picture": ("a.png", rows[0].image, "image/png")}
    shown = running.api.post(f"{running.stack.url}/playground", data=form, files=files, timeout=90)
    assert shown.status_code == 200 and "resized from 12 × 10" in shown.text and "data:image/png" in shown.text


@pytest.mark.nightly
def test_an_idle_process_ends_and_its_files_go(running: RunningStack) -> None:
    predict(running, 1, ["good"])
    [process] = processes(running)
    process.wait(60)
    assert predict(running, 1, ["good"]).status_code == 200
    assert [p.pid for p in processes(running)] != [process.pid]


@pytest.mark.nightly
def test_the_process_ends_with_its_node(running: RunningStack, tmp_path: Path) -> None:
    predict(running, 1, ["good"])
    [process] = processes(running)
    control = next(child for child in running.stack.children if child.name == "control")
    psutil.Process(control.process.pid).kill()
    process.wait(20)
    running.stack.keep_alive()
    until(lambda: predict(running, 1, ["good"]).status_code == 200, 90)
