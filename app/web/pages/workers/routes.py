"""Workers: who works, on what; and what waits."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.domain.runs.filters import Is
from app.services import workers
from app.services.resources import memory_fit
from app.services.resources.calibration import assumed, known
from app.store.queries import run_list, runs, studies
from app.web.http.dependencies import Config, Reading
from app.web.pages.workers.context import DeviceAccuracy, RunLine, WorkersPage, unproven
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

SHOWN = 50
MOST_RUNNING = 200


@router.get("/workers")
def index(request: Request, session: Reading, settings: Config, render: Render) -> HTMLResponse:
    """Workers and the queue, and how far estimates were off."""
    looks_again = "hx-request" in request.headers
    queue = runs.queued(session, limit=SHOWN)
    running = runs.running(session, limit=MOST_RUNNING)
    names = studies.names(session, {run.study_id for run in (*queue, *running) if run.study_id})
    page = WorkersPage(
        workers=tuple(workers.live(session, settings)),
        running={run.id: RunLine.of(run, names) for run in running},
        queue=tuple(RunLine.of(run, names) for run in queue),
        queued=run_list.count(session, Is("queued")),
        accuracy=() if looks_again else DeviceAccuracy.each(memory_fit.accuracy(session), known(session)),
        assumed=() if looks_again else tuple(map(unproven, assumed(session, settings))),
    )
    return render.page("workers/index.html", page)
