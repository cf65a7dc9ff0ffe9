"""Workers over REST."""

from fastapi import APIRouter

from app.services.workers import workers as worker_service
from app.services.workers.workers import WorkerView
from app.web.http.dependencies import Config, Reading

router = APIRouter()


@router.get("/workers", tags=["workers"], operation_id="listWorkers")
def list_workers(session: Reading, settings: Config) -> list[WorkerView]:
    """Workers with a heartbeat in the last day."""
    return worker_service.live(session, settings)
