"""The web application: `create_app` makes it, `vezna web` serves it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute

from app import logs
from app.broker.exchange import Reader
from app.broker.queue import Doorbell
from app.services.hooks import hooks
from app.services.users import audit, first_start
from app.settings import Settings, load
from app.store.database import migrate
from app.store.database.session import Database
from app.store.files.files import Files
from app.web import api
from app.web.forms.sent import from_own_page
from app.web.http import csrf, errors, idempotency
from app.web.http.access import Access
from app.web.http.feed import Feed
from app.web.http.files.static import mount
from app.web.http.middleware.body_limit import Application
from app.web.http.middleware.forwarded import UntrustedProxyWarning
from app.web.http.middleware.gate import Gate
from app.web.http.middleware.kept import KeptPages
from app.web.http.middleware.limits import LimitedRate
from app.web.http.middleware.metrics_port import MetricsPort
from app.web.http.middleware.security import KnownHost, NoControlCharacters, SameOrigin
from app.web.http.middleware.timing import Timed
from app.web.pages.routers import API_ROUTERS, ROUTERS
from app.web.site import Site, sites

DESCRIPTION = """Weighs full fine-tuning against LoRA and the other parameter-efficient methods.

Submit a *study* (arms × seeds) or a single *run*; watch its events; read the comparison. Bytes and seconds throughout;
scores and differences are fractions. Errors are `application/problem+json` and name the field and the remedy."""

BEARER = HTTPBearer(
    auto_error=False,
    description="An API token, `vezna_…`. Pages of the server send the cookie of their session instead.",
)
"""For the description alone: `Access` authenticates."""
GZIP_LEVEL = 4
"""Four times as fast as 9, which is Starlette's own, for answers that are 3 % longer."""
LARGEST_KEPT_BYTES = 16 << 20
MOST_BODY_BYTES = 1 << 20
"""A study of 32 arms and 100 seeds takes some ten thousand; files have limits of their own."""


@cache
def _routes(added: tuple[Site, ...], *, login_required: bool) -> tuple[BaseRoute, ...]:
    """Of every application of this process. FastAPI prepares routes at the first request that passes them, which takes
    50 ms of a processor; these keep what it has prepared."""
    together = APIRouter()
    closed = [Security(BEARER)] if login_required else []
    for router in (*api.public, *(each for site in added for each in site.public_api)):
        together.include_router(router, prefix=api.PREFIX)
    together.include_router(api.probes)
    whole = [each for site in added for each in (*site.other_api, *site.api_pages)]
    for router in (api.router([each for site in added for each in site.api]), *whole, api.metrics, *API_ROUTERS):
        together.include_router(router, dependencies=closed)
    for router in (*(each for site in added for each in site.pages), *ROUTERS):
        together.include_router(router, dependencies=[Depends(from_own_page)])
    return tuple(together.routes)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application. It refuses to start on a database that this code does not know."""
    settings = settings or Settings()
    hooks()  # imported at the start, and not within the first transaction

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        migrate.require_current(app.state.database)
        csrf.prepare(app)
        audit.record_settings(app.state.database, settings)
        if settings.login_required:
            first_start.announce(app.state.database, settings)
        yield
        await app.state.exchange.close()
        app.state.database.dispose()

    app = Application(
        title="Vezna",
        version=version("vezna"),
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        max_body_size=MOST_BODY_BYTES,
        lifespan=lifespan,
        routes=list(_routes(sites(), login_required=settings.login_required)),
    )
    app.state.settings = settings
    app.state.database = Database(settings.database)
    app.state.feed = Feed(lambda: app.state.database, most_per_client=settings.streams_per_client)
    app.state.doorbell = Doorbell(settings)
    app.state.files = Files(settings.files)
    app.state.exchange = Reader(settings)
    mount(app)
    for site in sites():
        site.install(app)
    errors.install(app)
    idempotency.install(app)
    app.add_middleware(Gate)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=GZIP_LEVEL)
    app.add_middleware(KeptPages, database=lambda: app.state.database)
    probes_at = settings.metrics[1] if settings.metrics else None
    required = settings.login_required
    app.add_middleware(Access, database=lambda: app.state.database, required=required, open_port=probes_at)
    app.add_middleware(SameOrigin)
    if probes_at is not None:
        app.add_middleware(MetricsPort, port=probes_at)
    app.add_middleware(LimitedRate, a_minute=settings.requests_per_minute)
    app.add_middleware(NoControlCharacters)
    app.add_middleware(UntrustedProxyWarning, trusted=settings.forwarded_allow_ips)
    app.add_middleware(KnownHost, names=settings.hosts, addresses_at=probes_at)
    app.add_middleware(Timed)
    return app


def serve() -> FastAPI:
    """The application of `vezna web` for uvicorn: `create_app`, with logging set up."""
    settings = load()
    logs.configure(settings)
    _keep_freed_memory()
    return create_app(settings)


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next request instead of returning it to the system: requesting the five
    megabytes of a curve again, page by page, takes longer than reading them.

    By its own rule (mallopt(3), M_MMAP_THRESHOLD) glibc keeps up to twice the largest block that was ever freed. Other
    allocators are unaffected.
    """
    np.empty(LARGEST_KEPT_BYTES, np.uint8)
