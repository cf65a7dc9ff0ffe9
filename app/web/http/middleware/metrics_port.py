"""`/metrics` and `/readyz` at a port of their own, so that a proxy which publishes the pages publishes neither."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.http.errors import nothing_here
from app.web.http.middleware.gate import PROBES

EVERYWHERE = "/livez"
"""It reveals nothing, and a supervisor may call either port."""


class MetricsPort:
    """Answers 404 to probes at the port of the pages, and to everything else at that of the probes."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app, self.port = app, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != EVERYWHERE:
            server = scope.get("server")
            if (server is not None and server[1] == self.port) != (scope["path"] in PROBES):
                await nothing_here(Request(scope))(scope, receive, send)
                return
        await self.app(scope, receive, send)
