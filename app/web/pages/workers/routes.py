"""Workers: their runs, the queue, and the accuracy of estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.domain.resources.calibration import Accuracy
from app.services.resources.calibration import Assumption, accuracy, assumed
from app.services.workers import queue_view, workers
from app.services.workers.queue_view import QueueView
from app.services.workers.workers import DeviceView, WorkerView
from app.store.runs import queries as runs
from app.store.tables import RunRow
from app.web.http.dependencies import Config, Reading
from app.web.templating import Render


@dataclass
class GpuRow:
    """A GPU, once, however many workers see it."""

    device: DeviceView
    """As a worker sees it that can use it and knows its free memory, if there is one."""
    workers: list[str] = field(default_factory=list)
    """Names of the workers that may use it."""

    @property
    def state(self) -> Literal["idle", "running", "lost"]:
        """Free, in use, or unusable."""
        taken = self.device.run_id is not None or self.device.in_private
        return "running" if taken else "lost" if self.device.problem else "idle"


def gpu_rows(workers: Sequence[WorkerView]) -> list[GpuRow]:
    """The GPUs of the workers that are there, in their order."""
    rows: dict[str, GpuRow] = {}
    for worker in workers:
        for device in worker.devices if worker.state != "lost" else ():
            row = rows.setdefault(device.uuid, GpuRow(device))
            row.device = min(row.device, device, key=lambda view: (bool(view.problem), view.free_bytes is None))
            row.workers.append(worker.name)
    return list(rows.values())


@dataclass(frozen=True)
class WorkersPage:
    """Workers, the queue, and the accuracy of estimates."""

    workers: Sequence[WorkerView]
    gpus: Sequence[GpuRow]
    running: Mapping[int, RunRow]
    """By id."""
    queue: QueueView
    accuracy: Mapping[tuple[str, str], Sequence[Accuracy]]
    """By device and precision; empty where htmx polls."""
    assumed: Sequence[Assumption]
    """Assumptions about devices without past runs; empty where htmx polls."""


router = APIRouter(include_in_schema=False)

MAX_QUEUED = 50
MAX_RUNNING = 200


@router.get("/workers")
def index(request: Request, session: Reading, settings: Config, render: Render) -> HTMLResponse:
    """Workers, the queue, and the accuracy of estimates."""
    polls = "hx-request" in request.headers
    queue = queue_view.view(session, limit=MAX_QUEUED)
    running = runs.running(session, limit=MAX_RUNNING)
    by_device: dict[tuple[str, str], list[Accuracy]] = {}
    for row in () if polls else accuracy(session):
        by_device.setdefault((row.device_name, row.precision), []).append(row)
    live = workers.live(session, settings)
    page = WorkersPage(
        workers=live,
        gpus=gpu_rows(live),
        running={run.id: run for run in running},
        queue=queue,
        accuracy=by_device,
        assumed=() if polls else assumed(session, settings),
    )
    return render.page("workers/index.html", page)
