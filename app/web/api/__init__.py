"""The REST API, version 1: what programs and the command line use."""

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.routing import APIRoute

from app.web.api import estimates, health, queue, workers
from app.web.api.data import datasets, uploads
from app.web.api.models import memory_maps, models
from app.web.api.runs import artifacts, events, runs, weight_deltas
from app.web.api.runs import listing as run_list
from app.web.api.studies import comparison, flips, reproductions, studies
from app.web.api.users import account, audit, hub_tokens, ownership
from app.web.http.errors import problems

PREFIX = "/api/v1"
PARTS = (
    studies,
    flips,
    run_list,
    runs,
    reproductions,
    weight_deltas,
    events,
    artifacts,
    estimates,
    memory_maps,
    models,
    uploads,
    datasets,
    comparison,
    workers,
    queue,
    ownership,
    account,
    hub_tokens,
    audit,
)


def router(added: Sequence[APIRouter]) -> APIRouter:
    """The routes below /api/v1: those of features, and those of the core."""
    together = APIRouter(prefix=PREFIX)
    for part in (*added, *(part.router for part in PARTS)):
        for route in part.routes:
            if isinstance(route, APIRoute) and (route.body_field or "requestBody" in (route.openapi_extra or {})):
                route.responses |= problems(413)  # a body may be above its limit
        together.include_router(part, responses=problems(400, 401, 403, 422, 429, 503))
    return together


public = (account.login_router,)
"""The routes of the API that need no authentication."""

probes, metrics = health.router, health.metrics_router
