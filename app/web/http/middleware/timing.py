"""Response times, for /metrics."""

from time import perf_counter

from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REGISTRY = CollectorRegistry()
REQUESTS = Histogram(
    "vezna_http_request_duration_seconds",
    "Time to answer, by operation (its operationId, or a page's name) and status",
    ["operation", "status"],
    registry=REGISTRY,
)


class Timed:
    """Measures response times by operation; a stream's until its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
