"""The REST API, version 1: what programs and the command line use."""

from fastapi import APIRouter
from fastapi.routing import APIRoute

from app.web.api import (
    account,
    artifacts,
    audit,
    blind,
    classes,
    comparison,
    datasets,
    estimates,
    events,
    external,
    fine_tuning,
    flips,
    health,
    hub_pushes,
    hub_tokens,
    imports,
    judgements,
    memory_maps,
    model_exports,
    models,
    openai_files,
    ownership,
    parity_checks,
    playground,
    predictions,
    queue,
    quotas,
    recipes,
    registry,
    reproductions,
    run_list,
    runs,
    studies,
    uploads,
    webhooks,
    weight_deltas,
    workers,
)
from app.web.http.errors import problems
from app.web.http.openai_errors import PREFIX as OPENAI_PREFIX
from app.web.http.openai_errors import openai_problems

PREFIX = "/api/v1"
router = APIRouter(prefix=PREFIX)
for part in (
    studies,
    recipes,
    flips,
    blind,
    judgements,
    run_list,
    runs,
    predictions,
    playground,
    reproductions,
    weight_deltas,
    events,
    artifacts,
    model_exports,
    hub_pushes,
    parity_checks,
    registry,
    estimates,
    memory_maps,
    models,
    uploads,
    datasets,
    imports,
    external,
    comparison,
    workers,
    queue,
    ownership,
    account,
    hub_tokens,
    quotas,
    audit,
    classes,
    webhooks,
):
    for route in part.router.routes:
        if isinstance(route, APIRoute) and (route.body_field or "requestBody" in (route.openapi_extra or {})):
            route.responses |= problems(413)  # a body may be above its limit
    router.include_router(part.router, responses=problems(400, 401, 403, 422, 429, 503))

openai = APIRouter(prefix=OPENAI_PREFIX)
"""The routes in OpenAI's form."""
for part in (openai_files, fine_tuning):
    openai.include_router(part.router, responses=openai_problems(400, 401, 403, 429, 503))

public = (account.login_router, model_exports.public_router)
"""The routes of the API that need no authentication."""

probes, metrics = health.router, health.metrics_router
