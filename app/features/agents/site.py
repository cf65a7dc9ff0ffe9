"""The agent interface."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
from fastapi import FastAPI
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.http.errors import AGENTS
from app.web.site import Site

if TYPE_CHECKING:
    from fastmcp import FastMCP


METHODS = ("GET", "POST", "DELETE")
FORWARDED = ("authorization", "accept-language", "user-agent", "host")


class Agents:
    """An ASGI application. The libraries take over a second to import, so the first request loads them. Each request
    has a transport of its own: there are no sessions, and nothing is left to end."""

    def __init__(self, application: ASGIApp) -> None:
        """`application`: the whole web application, to which each tool sends its requests."""
        self._application = application
        self._tools: FastMCP | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._tools is None:
            self._tools = await asyncio.to_thread(self._made)
        app = self._tools.http_app(path=AGENTS, stateless_http=True, json_response=True)
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    def _made(self) -> "FastMCP":
        from fastmcp.server.dependencies import get_http_request  # noqa: PLC0415

        from app.features.agents.ask import TIMEOUT, Ask  # noqa: PLC0415
        from app.features.agents.tools import server  # noqa: PLC0415

        @asynccontextmanager
        async def as_caller() -> AsyncIterator[httpx2.AsyncClient]:
            request: Request = get_http_request()
            headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
            client = (request.client.host, request.client.port) if request.client else ("127.0.0.1", 0)
            transport = httpx2.ASGITransport(app=self._application, client=client, raise_app_exceptions=False)
            base = f"{request.url.scheme}://{request.url.netloc}/api/v1"
            async with httpx2.AsyncClient(
                transport=transport, base_url=base, headers=headers, timeout=TIMEOUT
            ) as connection:
                yield connection

        return server(Ask(as_caller))


def _install(app: FastAPI) -> None:
    app.router.routes.append(Route(AGENTS, Agents(app), methods=METHODS))


SITE = Site(install=_install)
