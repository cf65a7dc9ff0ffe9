"""Workers: their runs, the queue, and the accuracy of estimates."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.domain.resources.calibration import Accuracy
from app.services.resources.calibration import accuracy, assumed
from app.services.workers import queue_view, workers
from app.store.runs import queries as runs
from app.web.http.dependencies import Config, Reading
from app.web.pages.workers.context import WorkersPage, gpu_rows
from app.web.templating import Render

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
