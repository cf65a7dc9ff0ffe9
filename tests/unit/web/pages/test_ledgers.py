"""Ledgers on pages of runs, studies and workers: measured beside predicted, and what was held without memory."""

import csv
import html
import io
import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from fastapi.testclient import TestClient

from app.domain.methods import LoraSpec
from app.domain.resources.calibration import EstimateBand
from app.domain.resources.devices import GIB, Gpu, VisibleGpu
from app.domain.runs.clocks import Clocks
from app.services.workers import workers
from app.services.workers.workers import DeviceView, WorkerView
from app.store.resources import devices
from app.store.runs import queries as runs
from app.store.tables import EstimateRow
from app.store.workers import clock
from app.store.workers import queries as worker_queries
from app.web.figures.drawing import render, stacks
from app.web.figures.resources.parts import LEDGER, TimeUse, estimated_sizes, ledger_sizes, time_stacks
from app.web.pages.workers.routes import gpu_rows
from tests.support.filled import estimates as filled_estimates
from tests.support.filled.filled import GPUS
from tests.support.rows.estimates import request
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of

LORA, FAILED, OLD, RUNNING = 2, 25, 26, 16


def use(train: EstimateBand | None = None, wall: float = 43.0, **clocks: float) -> TimeUse:
    """An attempt of 43 seconds."""
    usual = {"start": 4.0, "forward": 10.0, "backward": 20.0, "optimizer": 5.0, "data": 1.0, "evaluate": 3.0}
    return TimeUse("full", dict.fromkeys(Clocks.model_fields, 0.0) | usual | clocks, wall, train)


@pytest.fixture
def ledgers(full: TestClient) -> TestClient:
    """The first study has ledgers and predictions; a run of the third died with one."""
    with database_of(full).transaction() as session:
        filled_estimates.attach_estimates(session)
        filled_estimates.run_out_of_memory(session, runs.get(session, FAILED))
    return full


def shown(client: TestClient, address: str) -> str:
    """A page as one reads it."""
    return plain(html.unescape(client.get(address).text))


def test_the_parts_of_a_measured_peak_sum_to_it(ledgers: TestClient) -> None:
    rows = list(csv.DictReader(io.StringIO(ledgers.get(f"/runs/{LORA}/charts/owners.csv").text)))
    *parts, peak = [float(row["bytes"]) for row in rows]
    assert sum(parts) == pytest.approx(peak)
    *parts, peak = [float(row["estimated_bytes"]) for row in rows]
    assert sum(parts) == pytest.approx(peak)


def test_what_another_phase_held_more_than_training_is_not_the_devices_own() -> None:
    held = filled_estimates.measured_ledger("lora")
    sizes = dict(
        zip([css for css, _name in LEDGER], ledger_sizes(held.owners, held.total + 7, held.total + 12), strict=True)
    )
    assert (sizes["device"], sizes["phase"]) == (7, 5)
    guess = filled_estimates.estimate(request(method=LoraSpec())).model_copy(update={"ledger": held})
    larger = guess.model_copy(update={"phases": {"train": held.total, "evaluate": held.total + 30}})
    sizes = dict(zip([css for css, _name in LEDGER], estimated_sizes(larger, held.total + 50), strict=True))
    assert (sizes["device"], sizes["phase"]) == (20, 30)


def test_a_run_that_had_no_memory_shows_what_it_held_and_the_memory_savings(ledgers: TestClient) -> None:
    text = shown(ledgers, f"/runs/{FAILED}")
    assert "The trainer requested 128 MiB more in the forward pass of step 3, with 16 rows of 14 tokens." in text
    assert re.search(r"<figcaption>\d+ MiB were allocated when memory ran out, estimated peak \d+ MiB", text)
    assert f'hx-get="/runs/{FAILED}/savings"' in text
    filled_estimates.answer_requests(database_of(ledgers))
    settled = shown(ledgers, f"/runs/{FAILED}/savings")
    assert "hx-get" not in settled
    links = re.findall(r'href="(/studies/new\?[^"]*)"', settled)
    assert len(links) > 3
    found = parse_qs(urlparse(links[0]).query)
    assert found["from_run"] == [str(FAILED)]
    assert json.loads(found["set"][0])["method"]["kind"] == "lora"
    form = shown(ledgers, links[0])
    assert re.search(r'<legend class="hidden">Arm LoRA r=8</legend>', form)


def test_a_failure_that_is_not_of_memory_has_no_memory_savings(ledgers: TestClient) -> None:
    with database_of(ledgers).transaction() as session:
        run = runs.get(session, FAILED)
        run.failure_code, run.failure_message = "diverged", "step 3: nan"
        run.failure_ledger_json = run.failure_requested_bytes = None
    text = shown(ledgers, f"/runs/{FAILED}")
    assert "Memory savings" not in text
    assert "step 3: nan" in text


def test_the_savings_of_a_run_that_did_not_fail_are_an_empty_list(ledgers: TestClient) -> None:
    assert "None known" in shown(ledgers, f"/runs/{LORA}/savings")


@pytest.mark.slow
def test_a_study_stacks_the_memory_of_its_arms_with_the_predictions_below(ledgers: TestClient) -> None:
    text = shown(ledgers, "/studies/1/costs").split('id="memory"')[1].split('id="time"')[0]
    for row in ("temporaries", "measured peak", "estimated peak", "error"):
        assert f'<th scope="row">{row}</th>' in text
    assert "Pale: estimated" in text
    assert re.search(r"[+−]0\.\d %", text)
    rows = list(csv.DictReader(io.StringIO(ledgers.get("/studies/1/charts/memory.csv").text)))
    assert [row["arm"] for row in rows] == ["full", "LoRA r=8", "head only"]
    assert 0 < abs(float(rows[1]["error"])) < 0.01


def test_a_study_shows_the_estimated_training_of_each_arm_and_its_error(ledgers: TestClient) -> None:
    text = shown(ledgers, "/studies/1/costs").split('id="time"')[1].split('id="trade-off"')[0]
    assert "Below a bar: the estimated training, with its band." in text
    table = text.split("Train time, estimated and measured</caption>")[1].split("</table>")[0]
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in table.split("<tr>")[2:]]
    assert len(rows) == 3
    times = r"(\d+ s|1 min \d s)"
    for row, arm in zip(rows, ("full", "LoRA r=8", "head only"), strict=True):
        assert re.fullmatch(
            rf"{arm} {times} {times} to {times} {times} \d\.\d % too (high|low) from 8 past runs", " ".join(row)
        )
    found = list(csv.DictReader(io.StringIO(ledgers.get("/studies/1/charts/time.csv").text)))
    assert [row["arm"] for row in found] == ["full", "LoRA r=8", "head only"]
    for row in found:
        guess, measured = float(row["estimated_train_seconds"]), float(row["train_seconds"])
        assert float(row["estimated_low_train_seconds"]) <= guess <= float(row["estimated_high_train_seconds"])
        assert float(row["error"]) == pytest.approx(guess / measured - 1)
        parts = [float(row[f"{name}_seconds"]) for name in ("forward", "backward", "optimizer", "batches")]
        assert sum(parts) == pytest.approx(measured)


def test_a_predicted_training_begins_where_the_measured_one_does_and_its_band_is_drawn() -> None:
    data = time_stacks([use(EstimateBand(value=30.0, low=20.0, high=45.0, runs=3))])
    _measured, guess = data.bars
    assert [(part.colour, part.size) for part in guess.parts] == [("transparent", 4.0), ("var(--p-backward)", 30.0)]
    assert guess.band == (24.0, 49.0)
    drawn = stacks.chart(data, 556).configure(**render.CONFIG).to_dict(validate=True)
    [line] = [row for rows in drawn["datasets"].values() for row in rows if row.get("low") == 24.0]
    assert (line["high"], line["cut"]) == (49.0, False)


def test_a_band_that_reaches_far_beyond_the_bars_is_cut_and_leaves_them_legible() -> None:
    data = time_stacks([use(EstimateBand(value=30.0, low=10.0, high=270.0, runs=0), wall=40.0)])
    measured = data.bars[0]
    drawn = stacks.chart(data, 556).configure(**render.CONFIG).to_dict(validate=True)
    [line] = [row for rows in drawn["datasets"].values() for row in rows if row.get("low") == 14.0]
    assert line["cut"] and line["high"] == 1.25 * measured.end == 1.25 * 43.0


def legend(drawn: dict[str, Any]) -> list[str]:
    """The entries of the legend of parts."""
    [found] = [layer["encoding"]["fill"]["legend"] for layer in drawn["layer"] if "fill" in layer["encoding"]]
    return list(found["values"])


@pytest.mark.parametrize("width", [556, 356])
@pytest.mark.parametrize("forward", [0.01, 10.0])
def test_every_colour_of_a_drawing_is_named_in_it_however_small_its_part(forward: float, width: int) -> None:
    data = time_stacks([use(EstimateBand(value=30.0, low=20.0, high=45.0, runs=3), forward=forward)])
    drawn = stacks.chart(data, width).configure(**render.CONFIG).to_dict(validate=True)
    assert legend(drawn) == ["forward", "backward", "optimizer", "everything else"]


def test_what_no_bar_has_is_not_in_the_legend() -> None:
    data = time_stacks([use(wall=29.0, forward=0.0, data=0.0, evaluate=0.0)])
    drawn = stacks.chart(data, 556).configure(**render.CONFIG).to_dict(validate=True)
    assert legend(drawn) == ["backward", "optimizer", "everything else"]


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
