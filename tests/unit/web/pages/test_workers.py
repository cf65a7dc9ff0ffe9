"""The workers' page: predictions against measurements, by device and method."""

import html
import re
from dataclasses import replace

from fastapi.testclient import TestClient

from app.domain.resources.devices import GIB, Gpu, VisibleGpu
from app.services.workers import workers
from app.services.workers.workers import DeviceView, WorkerView
from app.store.resources import devices
from app.store.tables import EstimateRow
from app.store.workers import clock
from app.store.workers import queries as worker_queries
from app.web.pages.workers.routes import gpu_rows
from tests.support.filled import estimates as filled_estimates
from tests.support.filled.filled import GPUS
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of

CLASSES = "sequence-classification"


def test_runs_on_several_tasks_are_told_apart(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        filled_estimates.attach_estimates(session)
        for row in session.query(EstimateRow).where(EstimateRow.kind == "run"):
            if row.request_json["method"]["kind"] == "lora":
                row.request_json = {**row.request_json, "task": "causal-lm"}
    text = plain(html.unescape(full.get("/workers").text)).split('id="accuracy"')[1]
    tasks = re.findall(r"<small>([a-z ]*)</small></th>", text)
    assert sorted(tasks) == ["classification of texts", "classification of texts", "language modelling"]
    told = {(one["method"], one["task"]) for one in full.get("/api/v1/estimates/accuracy").json()}
    assert told == {("full", CLASSES), ("head-only", CLASSES), ("lora", "causal-lm")}


def test_who_only_looks_for_workers_again_is_not_told_the_errors(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        filled_estimates.attach_estimates(session)
    assert "mean abs. error" not in full.get("/workers", headers={"HX-Request": "true"}).text


def test_every_gpu_is_shown_once_with_its_run_its_worker_and_its_free_memory(full: TestClient) -> None:
    running = next(one["run_id"] for one in full.get("/api/v1/workers").json() if one["name"] == "cpu-1")
    a, b = GPUS
    with database_of(full).transaction() as session:
        devices.take(session, [b], run_id=running, epoch=1, worker="gpu-2")
        card = {"device": "cuda", "device_name": "NVIDIA L4", "memory_bytes": 24 * GIB, "cores": 8}
        gpu = Gpu(uuid=b, name="NVIDIA L4", memory_bytes=24 * GIB)
        workers.sign_on(session, "gpu-2", gpus=[gpu], **card)
        lost = VisibleGpu(uuid=a, problem="The driver no longer lists it.")
        used = VisibleGpu(uuid=b, free_bytes=2 * GIB)
        worker_queries.beat(session, "gpu-1", clock.now(session), [lost, used])
    text = plain(html.unescape(full.get("/workers").text))
    assert "gpu-1 lost a GPU" in text and f"NVIDIA L4 ({a}): The driver no longer lists it." in text
    rows = re.findall(r"<tr>.*?</tr>", text.split('id="gpus"')[1].split('id="queue"')[0], re.DOTALL)[1:]
    assert [re.findall(r'title="(.*?)"', row) for row in rows] == [[a], [b]]
    assert "lost" in rows[0] and "in use" in rows[1] and f'href="/runs/{running}"' in rows[1]
    assert '<td data-label="Worker">gpu-2</td>' in rows[1] and "2.0 GiB" in rows[1]
    assert "2 × NVIDIA L4" in text
    answer = {one["name"]: one["devices"] for one in full.get("/api/v1/workers").json()}
    assert [(one["uuid"], one["run_id"], one["worker"], one["free_bytes"]) for one in answer["gpu-1"]] == [
        (a, None, None, None),
        (b, running, "gpu-2", 2 * GIB),
    ]
    assert (answer["gpu-1"][0]["problem"], answer["cpu-1"]) == ("The driver no longer lists it.", [])


def test_a_gpu_is_shown_as_a_worker_sees_it_that_can_use_it_and_has_looked() -> None:
    gone = DeviceView("GPU-a", "NVIDIA L4", 24 * GIB, None, None, None, False, "The driver no longer lists it.")
    unseen, seen = replace(gone, problem=""), replace(gone, problem="", free_bytes=GIB)
    facts = {"device_name": "NVIDIA L4", "memory_bytes": 24 * GIB, "cores": 8, "bf16": True, "matmul_flops": None}

    def worker(name: str, view: DeviceView) -> WorkerView:
        state = {"capabilities": [], "state": "idle", "run_id": None, "seconds_since_heartbeat": 1.0}
        return WorkerView(name=name, device="cuda", devices=[view], **facts, **state)

    [row] = gpu_rows([worker("gpu-1", gone), worker("gpu-2", unseen), worker("gpu-3", seen), worker("gpu-4", unseen)])
    assert (row.device, row.state, row.workers) == (seen, "idle", ["gpu-1", "gpu-2", "gpu-3", "gpu-4"])
    assert gpu_rows([worker("gpu-1", gone)])[0].state == "lost"
