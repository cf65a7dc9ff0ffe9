"""Probes: /livez, /readyz, and /metrics for Prometheus."""

from collections import Counter
from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.domain.errors import Unavailable
from app.services.workers import workers as worker_service
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.studies import collections
from app.web.http.dependencies import Bell, Config, Db
from app.web.http.errors import problems
from app.web.http.middleware.timing import REGISTRY

router = APIRouter(tags=["health"])
metrics_router = APIRouter(tags=["health"])
"""It tells what an installation does, so where login is required it needs a token."""


class Readiness(BaseModel):
    """The state of each required part: `ok`, or what is wrong."""

    ready: bool
    database: str
    migrations: str
    broker: str


@router.get("/livez", operation_id="livez")
async def livez() -> dict[str, str]:
    """Whether the process answers. It takes no thread and no connection."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz", responses=problems(429) | {503: {"model": Readiness}})
def readyz(db: Db, bell: Bell) -> JSONResponse:
    """Whether database, migrations and broker are available. Without a broker, runs are accepted and wait."""
    database, migrations = "ok", "ok"
    try:
        migrate.require_current(db)
    except Unavailable as error:
        migrations = error.message
    except SQLAlchemyError as error:
        database = migrations = f"no answer: {type(error).__name__}"
    broker = "ok" if bell.answers() else "no answer"
    ready = database == migrations == broker == "ok"
    readiness = Readiness(ready=ready, database=database, migrations=migrations, broker=broker)
    return JSONResponse(readiness.model_dump(), status_code=200 if ready else 503)


@metrics_router.get("/metrics", operation_id="metrics", response_class=Response, responses=problems(401, 403, 429, 503))
def metrics(db: Db, settings: Config) -> Response:
    """Metrics for Prometheus: runs by state, imported runs, workers by state, time to answer. Base units; no run is a
    label."""
    states = CollectorRegistry()
    states.register(_States(db, settings))
    return Response(generate_latest(REGISTRY) + generate_latest(states), media_type=CONTENT_TYPE_LATEST)


class _States(Collector):
    """Gauges that are read from the database for each request."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db, self.settings = db, settings

    def collect(self) -> Iterable[Metric]:
        with self.db.reading() as session:
            by_status, imported = runs.count_by_status(session), collections.count_runs(session)
            by_state = Counter(view.state for view in worker_service.live(session, self.settings))
        gauge = GaugeMetricFamily("vezna_runs", "Runs of this installation by status", labels=["status"])
        for status, count in by_status.items():
            gauge.add_metric([status], count)
        yield gauge
        yield GaugeMetricFamily("vezna_imported_runs", "Runs brought in from elsewhere", value=imported)
        workers = GaugeMetricFamily("vezna_workers", "Workers by state", labels=["state"])
        for state in ("idle", "running", "draining", "lost"):
            workers.add_metric([state], by_state[state])
        yield workers
