"""Probes: /livez, /readyz, and /metrics for Prometheus."""

from collections import Counter
from collections.abc import Iterable
from time import perf_counter

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import Unavailable
from app.services import workers as worker_service
from app.settings import Settings
from app.store import migrate
from app.store.queries import runs
from app.store.session import Database
from app.web.dependencies import Bell, Config, Db

router = APIRouter(tags=["health"])

REGISTRY = CollectorRegistry()
REQUESTS = Histogram(
    "vezna_http_request_duration_seconds",
    "Time to answer, by operation (its operationId, or a page's name) and status",
    ["operation", "status"],
    registry=REGISTRY,
)


class Readiness(BaseModel):
    """Each part that is needed, and `ok` or what is wrong with it."""

    ready: bool
    database: str
    migrations: str
    broker: str


@router.get("/livez", operation_id="livez")
def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz", responses={503: {"model": Readiness}})
def readyz(db: Db, bell: Bell) -> JSONResponse:
    """Database, migrations and broker are there. Without a broker runs are still accepted, and wait."""
    database, migrations = "ok", "ok"
    try:
        migrate.require_current(db)
    except Unavailable as error:
        migrations = error.message
    except SQLAlchemyError as error:
        database = migrations = f"no answer: {type(error).__name__}"
    broker = "ok" if bell.answers() else "no answer"
    ready = database == migrations == broker == "ok"
    found = Readiness(ready=ready, database=database, migrations=migrations, broker=broker)
    return JSONResponse(found.model_dump(), status_code=200 if ready else 503)


@router.get("/metrics", operation_id="metrics", response_class=Response)
def metrics(db: Db, settings: Config) -> Response:
    """Metrics for Prometheus: runs by state, workers by state, time to answer. Base units; no run is a label."""
    states = CollectorRegistry()
    states.register(_States(db, settings))
    return Response(generate_latest(REGISTRY) + generate_latest(states), media_type=CONTENT_TYPE_LATEST)


class _States(Collector):
    """Gauges that are read off the database when they are asked for."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db, self.settings = db, settings

    def collect(self) -> Iterable[Metric]:
        with self.db.reading() as session:
            by_status = runs.count_by_status(session)
            by_state = Counter(view.state for view in worker_service.live(session, self.settings))
        found = GaugeMetricFamily("vezna_runs", "Runs by status", labels=["status"])
        for status, count in by_status.items():
            found.add_metric([status], count)
        yield found
        workers = GaugeMetricFamily("vezna_workers", "Workers by state", labels=["state"])
        for state in ("idle", "running", "draining", "lost"):
            workers.add_metric([state], by_state[state])
        yield workers


class Timed:
    """Measures the time to answer, by operation; a stream counts until its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on and measure."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                operation = getattr(route, "operation_id", None) or getattr(route, "name", "none")
                REQUESTS.labels(operation, str(message["status"])).observe(perf_counter() - began)
            await send(message)

        await self.app(scope, receive, timed)
